//! The initramfs: the init and the modules it loads, named in the order of their dependencies.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes a cpio archive (format newc, as the kernel unpacks it) with the modules that are wanted, and those
/// that they depend on. `modules` is the kernel's folder of them; `files` are further ones, by name.
///
/// # Panics
/// When the kernel has no such module, or a file cannot be read.
#[must_use]
pub fn build(init: &Path, modules: &Path, wanted: &[&str], files: &[(&str, &str)]) -> Vec<u8> {
    let all = walk(modules);
    let mut loaded = Vec::new();
    for name in wanted {
        load(name, &all, &mut loaded);
    }
    let mut archive = Archive::default();
    archive.add("init", EXECUTABLE, &fs::read(init).expect("the init was built"));
    for (name, content) in files {
        archive.add(name, FILE, content.as_bytes());
    }
    archive.add("modules", FOLDER, &[]);
    for (index, (name, module)) in loaded.iter().enumerate() {
        archive.add(&format!("modules/{index:02}-{name}.ko"), FILE, module);
    }
    archive.finish()
}

/// Appends a module behind what it depends on.
fn load(name: &str, files: &[PathBuf], loaded: &mut Vec<(String, Vec<u8>)>) {
    if loaded.iter().any(|(other, _)| other == name) {
        return;
    }
    let called = |path: &&PathBuf| {
        let file = path.file_name().unwrap_or_default().to_string_lossy().replace('-', "_");
        file.strip_suffix(".xz").unwrap_or(&file).strip_suffix(".ko") == Some(name)
    };
    let path = files.iter().find(called);
    let path = path.unwrap_or_else(|| panic!("this kernel has no module {name}"));
    let module = contents(path);
    for dependency in dependencies(&module) {
        load(&dependency, files, loaded);
    }
    loaded.push((name.to_owned(), module));
}

/// What a module depends on: it says so between zero bytes, as `depends=kvm,irqbypass`.
fn dependencies(module: &[u8]) -> Vec<String> {
    let said = module.split(|&byte| byte == 0).find_map(|text| text.strip_prefix(b"depends="));
    let said = String::from_utf8_lossy(said.expect("a module names what it depends on"));
    said.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

/// A module, unpacked: not every kernel unpacks it.
fn contents(path: &Path) -> Vec<u8> {
    if path.extension().is_none_or(|extension| extension != "xz") {
        return fs::read(path).expect("the module can be read");
    }
    let output = Command::new("xz").arg("-dc").arg(path).output().expect("xz runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder can be read");
    let paths = entries.map(|entry| entry.expect("the folder can be read").path());
    paths.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    files: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.files += 1;
        let size = u32::try_from(content.len()).expect("a file of less than 4 GiB");
        let name_size = u32::try_from(name.len() + 1).expect("a short name");
        // inode, mode, owner, group, links, time, size, device and special device (major and minor
        // each), size of the name, checksum (none)
        let fields = [self.files, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_644;
const EXECUTABLE: u32 = 0o100_755;
