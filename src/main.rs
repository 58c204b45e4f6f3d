use std::process::ExitCode;

fn main() -> ExitCode {
    pgctl::cli::main()
}
