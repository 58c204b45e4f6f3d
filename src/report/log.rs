//! Logging: what goes on below, for those who ask.

use super::Style;

/// Logging to standard error: warnings, more with `-vv`, or what `PGCTL_LOG` says.
pub fn log(verbose: u8, style: Style) {
    let level = match verbose {
        0 | 1 => "pgctl=warn,error",
        2 => "pgctl=debug,warn",
        _ => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("PGCTL_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    let result = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(style.color)
        .without_time()
        .try_init();
    if result.is_err() {
        tracing::debug!("logging is set up already");
    }
}
