//! An initramfs: the init and the modules it loads, named in the order of their dependencies.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds a cpio archive (format newc, as the kernel unpacks it): the init, the modules that are
/// wanted and what these depend on, except those that are built in, and other files. `modules` is the
/// kernel's folder of them.
///
/// # Panics
/// When the kernel has no such module, or a file cannot be read.
#[must_use]
pub fn build(
    init: &Path,
    modules: &Path,
    wanted: &[&str],
    others: &[(&str, Kind, &[u8])],
) -> Vec<u8> {
    let builtin = fs::read_to_string(modules.join("modules.builtin")).expect("a list of modules");
    let builtin: Vec<_> = builtin.lines().map(|line| name(Path::new(line))).collect();
    let files = walk(modules);
    let mut loaded = Vec::new();
    for wanted in wanted.iter().filter(|wanted| !builtin.iter().any(|name| name == *wanted)) {
        load(wanted, &files, &mut loaded);
    }
    let mut archive = Archive::default();
    archive.add("init", Kind::Executable, &fs::read(init).expect("the init was built"));
    for (name, kind, content) in others {
        archive.add(name, *kind, content);
    }
    archive.add("modules", Kind::Folder, &[]);
    for (index, (name, module)) in loaded.iter().enumerate() {
        archive.add(&format!("modules/{index:02}-{name}.ko"), Kind::File, module);
    }
    archive.finish()
}

/// Appends a module behind what it depends on.
fn load(name: &str, files: &[PathBuf], loaded: &mut Vec<(String, Vec<u8>)>) {
    if loaded.iter().any(|(other, _)| other == name) {
        return;
    }
    let path = files.iter().find(|path| self::name(path) == name);
    let path = path.unwrap_or_else(|| panic!("this kernel has no module {name}"));
    let module = contents(path);
    for dependency in dependencies(&module) {
        load(&dependency, files, loaded);
    }
    loaded.push((name.to_owned(), module));
}

/// The name of the module that a file has; another file's is no module's.
fn name(path: &Path) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy().replace('-', "_");
    let module = file.strip_suffix(".xz").unwrap_or(&file);
    module.strip_suffix(".ko").unwrap_or_default().to_owned()
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

/// What an entry of an archive is.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A folder, whose entries follow it.
    Folder,
    /// A file.
    File,
    /// A program.
    Executable,
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    files: u32,
}

impl Archive {
    fn add(&mut self, name: &str, kind: Kind, content: &[u8]) {
        let mode = match kind {
            Kind::Folder => 0o040_755,
            Kind::File => 0o100_644,
            Kind::Executable => 0o100_755,
        };
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
        self.add("TRAILER!!!", Kind::File, &[]);
        self.bytes
    }
}
