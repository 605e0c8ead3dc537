//! The `msix` program. All of it is in the library.

fn main() -> std::process::ExitCode {
    msix_sim::cli::run()
}
