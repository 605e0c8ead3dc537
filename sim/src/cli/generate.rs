//! `msix generate`: what packagers need.

use super::Cli;
use clap::{CommandFactory as _, Subcommand};
use clap_complete::Shell;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What can be generated.
#[derive(Debug, Subcommand)]
pub(super) enum Generate {
    /// Print the completions of a shell.
    Completions {
        /// Which.
        shell: Shell,
    },
    /// Write a man page for the program and one for each subcommand into a folder that exists.
    Man {
        /// Where.
        folder: PathBuf,
    },
}

/// Runs it.
pub(super) fn generate(what: &Generate) -> Result<ExitCode, String> {
    match what {
        Generate::Completions { shell } => completions(*shell)?,
        Generate::Man { folder } => {
            let failed = |error: io::Error| format!("{}: {error}", folder.display());
            man_pages(folder).map_err(failed)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn completions(shell: Shell) -> Result<(), String> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "msix", &mut text);
    super::output::Output::default().part(&String::from_utf8_lossy(&text))
}

fn man_pages(folder: &Path) -> io::Result<()> {
    clap_mangen::generate_to(Cli::command(), folder)
}
