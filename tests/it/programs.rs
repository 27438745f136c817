//! Real programs as the app, and other inits before lastword: their last words at a stop, to the line.

mod celery;
mod gunicorn;
mod nested;
mod node;
mod ruby;
mod supervisord;
