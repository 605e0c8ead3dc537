//! Whose the file of a server's socket is.

use msix_ivshmem::{Server, ServerError, ServerOptions};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, socket};
use std::fs::{self, File};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

fn server(path: &Path) -> Result<Server, ServerError> {
    Server::bind(path, ServerOptions::new(1, 4096))
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server");
    (folder, path)
}

#[test]
fn a_socket_on_which_nobody_listens_any_more_is_replaced() {
    let (_folder, path) = place();
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "as a process leaves it that is killed");
    let mut server = server(&path).unwrap();
    UnixStream::connect(&path).unwrap();
    server.turn(Some(Duration::ZERO)).unwrap();
    drop(server);
    assert!(!path.exists());
}

#[test]
fn a_socket_on_which_somebody_listens_is_left_alone() {
    let (_folder, path) = place();
    let mut first = server(&path).unwrap();
    let error = server(&path).unwrap_err();
    assert!(matches!(&error, ServerError::Live { path: p } if *p == path), "{error}");
    assert!(error.to_string().ends_with("server: a server listens there already"), "{error}");
    UnixStream::connect(&path).unwrap();
    first.turn(Some(Duration::ZERO)).unwrap();
    drop(first);

    // One that takes no connections, and has no room for more.
    let busy = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    bind(&busy, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&busy, 0).unwrap();
    let _waiting = UnixStream::connect(&path).unwrap();
    assert!(matches!(server(&path), Err(ServerError::Live { .. })), "it does not wait for it");
    fs::remove_file(&path).unwrap();

    // One of another kind.
    let other = UnixDatagram::bind(&path).unwrap();
    assert!(matches!(server(&path), Err(ServerError::Socket { .. })));
    assert!(path.exists());
    drop(other);
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let (folder, path) = place();
    let file = folder.path().join("file");
    fs::write(&file, "mine").unwrap();
    let stale = folder.path().join("stale");
    drop(UnixListener::bind(&stale).unwrap());
    let makers: [&dyn Fn(); 4] = [
        &|| fs::write(&path, "mine").unwrap(),
        &|| fs::create_dir(&path).unwrap(),
        &|| std::os::unix::fs::symlink(&file, &path).unwrap(),
        &|| std::os::unix::fs::symlink(&stale, &path).unwrap(),
    ];
    for make in makers {
        make();
        let error = server(&path).unwrap_err();
        assert!(matches!(error, ServerError::NoSocket { .. }), "{error}");
        assert!(error.to_string().ends_with("server: there is a file that is no socket"));
        assert!(fs::symlink_metadata(&path).is_ok());
        let _ = fs::remove_dir(&path).or_else(|_| fs::remove_file(&path));
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    assert!(stale.exists());
}

#[test]
fn a_server_that_ends_removes_its_own_socket_only() {
    let (_folder, path) = place();
    for replaced in [false, true] {
        let first = server(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let second = replaced.then(|| server(&path).unwrap());
        drop(first);
        assert_eq!(path.exists(), replaced);
        if let Some(mut second) = second {
            UnixStream::connect(&path).unwrap();
            second.turn(Some(Duration::ZERO)).unwrap();
        }
        assert!(!path.exists());
    }
    let server = server(&path).unwrap();
    fs::remove_file(&path).unwrap();
    File::create(&path).unwrap();
    drop(server);
    assert!(path.exists(), "somebody's file");
}
