//! The numbered lines: bytes that are a pure function of (source, stream, shape, number).
//!
//! Shared by the test app (`tests/apps/oracle_app.rs`), which writes them, and by the judge, which computes them again. A
//! line starts with `@SOURCE STREAM SHAPE NUMBER`, so that it says which line it claims to be; all its bytes are then
//! compared with what that line must be. No line contains a newline. Writers in other languages use the shape `p`.

/// Lengths in bytes around the edges of common buffers: pages, pipe atomicity, pipe sizes, read slabs, the default
/// `--max-line` of 64 KiB.
const EDGES: [usize; 14] = [0, 0, 0, 80, 127, 128, 1023, 1024, 1025, 4094, 4095, 4096, 8191, 8192];
const RARE_EDGES: [usize; 4] = [65_534, 65_535, 65_536, 65_537];

/// What the bytes after the number look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shape {
    /// `p`: nothing.
    Plain,
    /// `fN`: letters, so that the line has N bytes (or its prefix alone, if that is longer).
    Fixed(usize),
    /// `e`: letters, with lengths at the edges of buffers; now and then longer than 64 KiB.
    Edges,
    /// `h`: 0 to 300 bytes of any value but newline: NUL, CR, ESC, quotes, broken UTF-8.
    Hostile,
    /// `u`: 0 to 300 characters of one to four bytes.
    Unicode,
}

impl Shape {
    /// Reads the shape's name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "p" => Some(Self::Plain),
            "e" => Some(Self::Edges),
            "h" => Some(Self::Hostile),
            "u" => Some(Self::Unicode),
            _ => name.strip_prefix('f')?.parse().ok().map(Self::Fixed),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Plain => "p".into(),
            Self::Fixed(bytes) => format!("f{bytes}"),
            Self::Edges => "e".into(),
            Self::Hostile => "h".into(),
            Self::Unicode => "u".into(),
        }
    }
}

/// Line `number` (from 1) that `source` writes to `stream` (`o` or `e`), without its newline.
pub fn line(source: &str, stream: char, shape: Shape, number: u64) -> Vec<u8> {
    let mut bytes = format!("@{source} {stream} {} {number}", shape.name()).into_bytes();
    let mut random = Random::new(source, stream, number);
    match shape {
        Shape::Plain => {}
        Shape::Fixed(length) => letters(&mut bytes, length, &mut random),
        Shape::Edges if number.is_multiple_of(61) => {
            letters(&mut bytes, RARE_EDGES[random.below(RARE_EDGES.len())], &mut random);
        }
        Shape::Edges => letters(&mut bytes, EDGES[random.below(EDGES.len())], &mut random),
        Shape::Hostile => {
            bytes.push(b' ');
            for _ in 0..random.below(300) {
                let byte = (random.next() >> 24) as u8;
                bytes.push(if byte == b'\n' { b'\r' } else { byte });
            }
        }
        Shape::Unicode => {
            const CHARACTERS: [char; 8] = ['a', 'ß', '€', '語', '😀', '"', '\\', '\u{2028}'];
            bytes.push(b' ');
            let text: String = (0..random.below(300)).map(|_| CHARACTERS[random.below(CHARACTERS.len())]).collect();
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    bytes
}

fn letters(bytes: &mut Vec<u8>, length: usize, random: &mut Random) {
    if bytes.len() < length {
        bytes.push(b' ');
    }
    while bytes.len() < length {
        let word = random.next().to_le_bytes();
        let room = length - bytes.len();
        bytes.extend(word.iter().take(room).map(|byte| b'a' + byte % 26));
    }
}

/// `SplitMix64`, seeded by what the line is.
struct Random(u64);

impl Random {
    fn new(source: &str, stream: char, number: u64) -> Self {
        let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let hash = source.bytes().chain([stream as u8]).fold(0xcbf2_9ce4_8422_2325, fnv);
        Self(hash ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}
