//! Building the image, and reading it.

use msix_tests::peers::tell;
use object::read::elf::{ElfFile64, ProgramHeader as _};
use object::{Endianness, Object as _, ObjectSection as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const TARGET: &str = "x86_64-unknown-none";

/// The built image.
pub(crate) struct Image {
    pub(crate) path: PathBuf,
    bytes: Vec<u8>,
}

/// Builds the image once; without the target's library, `None` and a word of the skip.
pub(crate) fn image_or_skip(test: &str) -> Option<&'static Image> {
    static IMAGE: OnceLock<Option<Image>> = OnceLock::new();
    let image = IMAGE.get_or_init(|| has_target().then(Image::build)).as_ref();
    if image.is_none() {
        // No package brings it and not every machine may fetch it, so it is no failure anywhere.
        tell(&format!("skipped: {test}: no library for {TARGET} (rustup target add {TARGET})"));
    }
    image
}

fn has_target() -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let asked = Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).output();
    asked.is_ok_and(|asked| Path::new(String::from_utf8_lossy(&asked.stdout).trim()).exists())
}

impl Image {
    fn build() -> Self {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("firmware");
        let output = Command::new(env!("CARGO"))
            .args(["build", "--release", "--locked", "--target-dir"])
            .arg(&target)
            // Where .cargo/config.toml says how it is linked, unless the environment does.
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("firmware"))
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let path = target.join(TARGET).join("release/msix-firmware");
        let bytes = std::fs::read(&path).expect("the image was built");
        Self { path, bytes }
    }

    fn elf(&self) -> ElfFile64<'_, Endianness> {
        ElfFile64::parse(&*self.bytes).expect("an ELF file")
    }

    /// Bytes of a section.
    pub(crate) fn section(&self, name: &str) -> u64 {
        let elf = self.elf();
        let section = elf.section_by_name(name).unwrap_or_else(|| panic!("no section {name}"));
        section.size()
    }

    /// Where a PVH loader starts it.
    #[cfg(feature = "kvm")]
    pub(crate) fn entry(&self) -> u64 {
        self.elf().entry()
    }

    /// What a loader puts into memory, each with its address. Everything else is zeros.
    #[cfg(feature = "kvm")]
    pub(crate) fn segments(&self) -> Vec<(u64, &[u8])> {
        let elf = self.elf();
        let headers = elf.elf_program_headers().iter();
        let loaded = headers.filter(|header| header.p_type(elf.endian()) == object::elf::PT_LOAD);
        loaded
            .map(|header| {
                let bytes = header.data(elf.endian(), &*self.bytes).expect("bytes of the file");
                (header.p_paddr(elf.endian()), bytes)
            })
            .collect()
    }
}
