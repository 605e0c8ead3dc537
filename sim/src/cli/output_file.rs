//! A file that is written when all is done, in place of what was there.

use std::fs::{Permissions, symlink_metadata};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Where the file goes.
#[derive(Debug)]
pub(super) struct OutputFile {
    path: PathBuf,
    /// Of the file that is replaced.
    permissions: Option<Permissions>,
}

impl OutputFile {
    /// Looks whether `path` may be replaced: by nothing that is read (device and inode of `input`), and
    /// only if it is a file or nothing. A link is not followed, and a device is not replaced.
    pub(super) fn new(path: &Path, input: Option<(u64, u64)>) -> Result<Self, String> {
        let refused = |why: &str| Err(format!("{}: {why}", path.display()));
        let permissions = match symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return refused(&error.to_string()),
            Ok(found) if !found.is_file() => return refused("it exists, and is no regular file"),
            Ok(found) if input == Some((found.dev(), found.ino())) => {
                return refused("it is the input");
            }
            Ok(found) => Some(found.permissions()),
        };
        Ok(Self { path: path.to_owned(), permissions })
    }

    /// Writes it whole, or leaves what was there.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<(), String> {
        let written = self.replace(bytes);
        written.map_err(|error| format!("{}: cannot be written: {error}", self.path.display()))
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut beside = tempfile::Builder::new()
            .prefix(".msix-")
            .permissions(Permissions::from_mode(0o666)) // and the umask
            .tempfile_in(folder.unwrap_or_else(|| Path::new(".")))?;
        beside.write_all(bytes)?;
        if let Some(permissions) = &self.permissions {
            beside.as_file().set_permissions(permissions.clone())?;
        }
        beside.persist(&self.path)?;
        Ok(())
    }
}
