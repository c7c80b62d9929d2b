//! What commands say. The standard library's macros of these names panic where nobody reads any more (`keyward policy corp | head -1`).

use std::fmt::Arguments;
use std::io::{ErrorKind, Result, Write, stderr, stdout};

use super::failed;

/// A line on standard output.
macro_rules! println {
    ($($text:tt)*) => { $crate::cli::output::out(format_args!("{}\n", format_args!($($text)*))) };
}

/// The same as it is.
macro_rules! print {
    ($($text:tt)*) => { $crate::cli::output::out(format_args!($($text)*)) };
}

/// A line on standard error.
macro_rules! eprintln {
    () => { $crate::cli::output::err(format_args!("\n")) };
    ($($text:tt)*) => { $crate::cli::output::err(format_args!("{}\n", format_args!($($text)*))) };
}

/// The same as it is.
macro_rules! eprint {
    ($($text:tt)*) => { $crate::cli::output::err(format_args!($($text)*)) };
}

/// To whoever reads standard output; who has read enough is no fault of the command's. What cannot be written elsewise ends it: what it has
/// done is done.
pub(super) fn out(text: Arguments<'_>) {
    let mut stdout = stdout().lock();
    if let Err(error) = unless_closed(stdout.write_fmt(text).and_then(|()| stdout.flush())) {
        std::process::exit(i32::from(failed(&format!("standard output: {error}"))));
    }
}

/// To whoever reads standard error, if anybody does.
pub(super) fn err(text: Arguments<'_>) {
    let _ = stderr().lock().write_fmt(text);
}

/// A reader that has gone is no error.
pub(super) fn unless_closed(written: Result<()>) -> Result<()> {
    written.or_else(|error| if error.kind() == ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
}
