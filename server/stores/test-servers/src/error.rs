//! Why a server for tests is not there.

use std::io;

/// Why a server could not be found, started, asked or stopped.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ServerError {
    /// No binaries of a version that the tests know.
    #[error(
        "no PostgreSQL {version_min} or newer was found; `scripts/setup` installs Debian's postgresql-15 and \
         postgresql-client-15; elsewhere put the folder of initdb, postgres and psql on PATH"
    )]
    NotInstalled {
        /// The oldest major version that will do.
        version_min: u32,
    },
    /// A program that a package of the distribution brings is not on PATH.
    #[error("`{program}` was not found; `scripts/setup` installs Debian's {package}")]
    ProgramMissing {
        /// The program.
        program: &'static str,
        /// Its package.
        package: &'static str,
    },
    /// The server refuses to run as root, and there is nobody else to run it as.
    #[error("the tests run as root, and the account `{0}`, which PostgreSQL would run as, does not exist")]
    NoAccount(&'static str),
    /// The operating system refused something.
    #[error("could not {doing}: {reason}")]
    System {
        /// What was tried.
        doing: String,
        /// What the system said.
        reason: String,
    },
    /// A program of the server ended with a failure.
    #[error("{program} failed: {output}")]
    Failed {
        /// The program's name.
        program: &'static str,
        /// What it wrote to its standard error.
        output: String,
    },
    /// The server ended, or did not get ready in time; its last lines of log.
    #[error("the server did not get ready; its log ends:\n{0}")]
    NotReady(String),
    /// Processes of the server outlived its stop.
    #[error("processes of the server still run after it was stopped")]
    StillRunning,
    /// The server was stopped, and not started again.
    #[error("the server does not run")]
    NotRunning,
}

impl ServerError {
    /// The system's refusal of what was tried.
    pub(crate) fn system(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |error| Self::System { doing, reason: error.to_string() }
    }
}
