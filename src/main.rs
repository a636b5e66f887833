//! See the library: the binary is its command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    raqib::cli::main()
}
