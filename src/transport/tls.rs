//! TLS for transports of their own: whom we trust, who we are, and what a refusal means.
//!
//! rustls with ring. Roots are the platform's, or the compiled-in ones where it has none (`FROM scratch`), and those of
//! `#ca=`. A `#fingerprint=` replaces roots and names: that one certificate, and no other. Sessions are never resumed,
//! so that each connection checks the peer's certificate, and shows ours, anew. There is no way back to plain text.

use super::Verdict;
use crate::{
    config::{Identity, TlsTarget},
    errand::{PATIENCE, ask, hangs},
};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme, SupportedCipherSuite,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{self, CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    sign::CertifiedKey,
};
use std::{
    fmt::{Display, Write},
    path::Path,
    sync::Arc,
};

/// What rustls-webpki calls a server's certificate that may sign others: what `openssl req -x509` makes.
const SELF_SIGNED: &str = "CaUsedAsEndEntity";

/// Settings for one target at `host`; reads the files of a client certificate.
///
/// # Errors
/// In words: an unusable root, certificate or key.
pub(super) fn client_config(target: &TlsTarget, host: &str) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("no TLS: {error}"))?;
    let rule = match target.fingerprint {
        Some(wanted) => Rule::Fingerprint(wanted),
        None => {
            let roots = Arc::new(roots(target.ca_pem.as_deref())?);
            let roots = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
            let roots = roots.map_err(|error| format!("no TLS: {error}"))?;
            Rule::Name { roots, host: name(host).ok(), wanted: server_name(target, host)? }
        }
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Verifier { rule, provider }));
    let mut config = match &target.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let (chain, key) = pair(identity)?;
            let wrong = |error: Error| format!("{}: {error}", identity.cert.display());
            builder.with_client_auth_cert(chain, key).map_err(wrong)?
        }
    };
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// What can be known of a target's files before there is a peer: whether they hold what they are to hold, and belong together. A disk
/// that hangs is not waited for: the app's start depends on it.
///
/// # Errors
/// In words: an unusable root, certificate or key.
pub(crate) fn check(target: &TlsTarget) -> Result<(), String> {
    add_roots(&mut RootCertStore::empty(), target.ca_pem.as_deref())
        .map_err(|_| "option `ca`: something in its file is no certificate".to_owned())?;
    let Some(identity) = &target.identity else { return Ok(()) };
    let asked = identity.clone();
    let (chain, key) = ask(PATIENCE, move || pair(&asked)).ok_or_else(|| format!("option `cert`: {}", hangs()))??;
    let (cert_name, key_name) = (identity.cert.display(), identity.key.display());
    match CertifiedKey::from_der(chain, key, &ring::default_provider()) {
        Ok(_) => Ok(()),
        Err(Error::InconsistentKeys(_)) => Err(format!("the key in `{key_name}` is not that of `{cert_name}`")),
        Err(Error::InvalidCertificate(_)) => Err(format!("what `{cert_name}` holds first is no certificate")),
        Err(error) => Err(format!("`{key_name}`: {error}")),
    }
}

/// A client certificate with those that vouch for it, and its key.
fn pair(identity: &Identity) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let wrong = |what: &Path, error: &dyn Display| format!("{}: {error}", what.display());
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&identity.cert)
        .and_then(Iterator::collect)
        .map_err(|error| wrong(&identity.cert, &error));
    let key = PrivateKeyDer::from_pem_file(&identity.key).map_err(|error| wrong(&identity.key, &error))?;
    Ok((chain?, key))
}

/// The name that the peer's certificate must have.
///
/// # Errors
/// In words, if it is no name at all.
pub(super) fn server_name(target: &TlsTarget, host: &str) -> Result<ServerName<'static>, String> {
    name(target.servername.as_deref().unwrap_or(host))
}

fn name(text: &str) -> Result<ServerName<'static>, String> {
    // URLs have IPv6 addresses in brackets.
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    ServerName::try_from(bare.to_owned()).map_err(|_| format!("`{text}` can't be the name in a certificate"))
}

/// The platform's roots, or the compiled-in ones where it has none (`FROM scratch`), and those that the user named.
///
/// # Errors
/// In words, if the user's are no certificates.
pub(super) fn roots(ca_pem: Option<&[u8]>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let compiled_in = roots.is_empty();
    if compiled_in {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    tracing::debug!(count = roots.len(), compiled_in, "roots");
    add_roots(&mut roots, ca_pem)?;
    Ok(roots)
}

fn add_roots(roots: &mut RootCertStore, ca_pem: Option<&[u8]>) -> Result<(), String> {
    for certificate in ca_pem.into_iter().flat_map(CertificateDer::pem_slice_iter) {
        let certificate = certificate.map_err(|error| format!("ca: not a PEM certificate: {error}"))?;
        roots.add(certificate).map_err(|error| format!("ca: not a root certificate: {error}"))?;
    }
    Ok(())
}

/// What to do about a TLS error: certificates, ours or theirs, need a person; the rest is weather.
pub(super) fn verdict(error: &Error, resend_from: u64) -> Verdict {
    match error {
        Error::InvalidCertificate(_) | Error::PeerIncompatible(_) | Error::NoCertificatesPresented => Verdict::Hold,
        Error::AlertReceived(alert) if is_refusal(*alert) => Verdict::Hold,
        _ => Verdict::Retry { resend_from, after: None },
    }
}

/// Alerts about our certificate, or about what is spoken at all (RFC 8446 §6.2).
fn is_refusal(alert: AlertDescription) -> bool {
    use AlertDescription as A;
    matches!(alert, A::CertificateRequired | A::HandshakeFailure | A::ProtocolVersion | A::UnrecognisedName)
        || is_about_our_certificate(alert)
}

fn is_about_our_certificate(alert: AlertDescription) -> bool {
    use AlertDescription as A;
    matches!(
        alert,
        A::NoCertificate
            | A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::UnknownCA
            | A::AccessDenied
    )
}

/// What went wrong, to be read behind "HOST:PORT: ".
pub(super) fn why(error: &Error) -> String {
    use CertificateError as C;
    match error {
        Error::InvalidCertificate(C::Expired | C::ExpiredContext { .. }) => "its TLS certificate has expired".into(),
        Error::InvalidCertificate(C::NotValidYet | C::NotValidYetContext { .. }) => {
            "its TLS certificate is not valid yet (or our clock is wrong)".into()
        }
        Error::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. }) => {
            "its TLS certificate is for another name (`#servername=` can name it)".into()
        }
        Error::InvalidCertificate(C::UnknownIssuer) => {
            "its TLS certificate is from an unknown issuer (`#ca=` can name it)".into()
        }
        Error::InvalidCertificate(C::Other(OtherError(error))) if error.to_string() == SELF_SIGNED => {
            "its TLS certificate is a root's, signed by itself (`#fingerprint=` can name it)".into()
        }
        Error::InvalidCertificate(C::Other(OtherError(error))) => format!("its TLS certificate is not taken: {error}"),
        Error::InvalidCertificate(error) => format!("its TLS certificate is not taken: {error}"),
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "it wants a TLS client certificate (`#cert=` and `#key=`)".into()
        }
        Error::AlertReceived(alert) if is_about_our_certificate(*alert) => {
            format!("it refused our TLS client certificate ({alert:?})")
        }
        Error::AlertReceived(alert) => format!("it broke TLS off ({alert:?})"),
        Error::InvalidMessage(_) => "it does not speak TLS".into(),
        other => format!("TLS failed: {other}"),
    }
}

/// Whom we take for the peer. Whatever the rule, the handshake proves that the peer has its certificate's key.
#[derive(Debug)]
struct Verifier {
    rule: Rule,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Rule {
    /// Whom the roots vouch for, under the name of `#servername=`. HTTP clients ask for that of their URL, `host` (None if it
    /// could stand in no certificate); it stands for the other one here. (A proxy has a name of its own.)
    Name { roots: Arc<WebPkiServerVerifier>, host: Option<ServerName<'static>>, wanted: ServerName<'static> },
    /// One certificate, whoever issued it.
    Fingerprint([u8; 32]),
}

/// The certificate is another one.
#[derive(Debug, thiserror::Error)]
#[error("it has the fingerprint sha256:{0}")]
struct OtherFingerprint(String);

fn sha256(bytes: &[u8]) -> Vec<u8> {
    let SupportedCipherSuite::Tls13(suite) = ring::cipher_suite::TLS13_AES_128_GCM_SHA256 else { return Vec::new() };
    suite.common.hash_provider.hash(bytes).as_ref().to_vec()
}

/// Whether it is that certificate.
fn has_fingerprint(certificate: &[u8], wanted: &[u8; 32]) -> Result<ServerCertVerified, Error> {
    let hash = sha256(certificate);
    if hash == wanted {
        return Ok(ServerCertVerified::assertion());
    }
    let text = hash.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(OtherFingerprint(text))))))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.rule {
            Rule::Name { roots, host, wanted } => {
                let name = if host.as_ref() == Some(server_name) { wanted } else { server_name };
                roots.verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
            }
            Rule::Fingerprint(wanted) => has_fingerprint(end_entity, wanted),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_is_what_everybody_calls_it() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(sha256(b"abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
    }

    #[test]
    fn certificates_need_a_person_and_the_rest_is_weather() {
        let holds = |error: Error| matches!(verdict(&error, 0), Verdict::Hold);
        assert!(holds(CertificateError::UnknownIssuer.into()));
        assert!(holds(Error::AlertReceived(AlertDescription::CertificateRequired)));
        assert!(holds(Error::AlertReceived(AlertDescription::UnknownCA)));
        assert!(!holds(Error::AlertReceived(AlertDescription::InternalError)));
        assert!(!holds(Error::DecryptError));
        assert!(why(&Error::AlertReceived(AlertDescription::CertificateRequired)).contains("#cert="));
    }
}
