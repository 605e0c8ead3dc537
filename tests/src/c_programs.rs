//! Programs in C and C++ on the C interface, built with the compilers of the system.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A compiler of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compiler {
    /// `cc`, for C11.
    C,
    /// `c++`, for C++17.
    Cpp,
}

impl Compiler {
    /// Both.
    pub const ALL: [Self; 2] = [Self::C, Self::Cpp];

    /// Returns the name of the language.
    #[must_use]
    pub const fn language(self) -> &'static str {
        match self {
            Self::C => "C",
            Self::Cpp => "C++",
        }
    }

    const fn program(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::C => ("cc", &["-std=c11", "-x", "c"]),
            Self::Cpp => ("c++", &["-std=c++17", "-x", "c++"]),
        }
    }

    /// Returns whether the system has it.
    #[must_use]
    pub fn is_there(self) -> bool {
        Command::new(self.program().0)
            .arg("--version")
            .output()
            .is_ok_and(|ran| ran.status.success())
    }

    /// Builds `source`, a file of the repository, with the header and the static library.
    ///
    /// # Panics
    /// When the compiler warns or fails: what it says is in the message.
    #[must_use]
    pub fn build(self, source: &str) -> CProgram {
        let (compiler, options) = self.program();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("program");
        let output = Command::new(compiler)
            .args(["-g", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror"])
            .args(options)
            .arg(root().join(source))
            .args(["-x", "none", "-I"])
            .arg(root().join("backends/capi/include"))
            .arg(library())
            .args(["-lpthread", "-ldl", "-lm", "-o"])
            .arg(&path)
            .output()
            .expect("the compiler runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        CProgram { path, _folder: folder }
    }
}

/// A program that was built, and is removed with this.
#[derive(Debug)]
pub struct CProgram {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl CProgram {
    /// Returns the command that runs it.
    #[must_use]
    pub fn command(&self) -> Command {
        Command::new(&self.path)
    }
}

/// Builds the static library, once.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        // The tests are in `deps` of a profile of the target folder.
        let tests = std::env::current_exe().expect("the name of this program");
        let target = tests.ancestors().nth(3).expect("a target folder").join("tmp/c");
        let output = Command::new(env!("CARGO"))
            .args(["rustc", "--package", "msix-capi", "--lib", "--crate-type", "staticlib"])
            .args(["--all-features", "--target-dir"])
            .arg(&target)
            .current_dir(root())
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        target.join("debug/libmsix_capi.a")
    })
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
