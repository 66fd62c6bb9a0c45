//! PEM files and the state folder: read with errors that name the file, written whole or not at all.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustls_pki_types::pem::{Error, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::files;

pub(super) type Pem = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

pub(super) fn read_pem(chain_file: &Path, key_file: &Path) -> Result<Pem, String> {
    let read = |file| files::read(file, files::SETTINGS).map_err(Error::Io);
    let chain = read(chain_file)
        .and_then(|pem| CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>())
        .map_err(|error| format!("can't read certificates from {}: {error}; it must be PEM", chain_file.display()))?;
    let key = read(key_file)
        .and_then(|pem| PrivateKeyDer::from_pem_slice(&pem))
        .map_err(|error| format!("can't read a private key from {}: {error}; it must be PEM", key_file.display()))?;
    Ok((chain, key))
}

pub(super) fn create_folder(folder: &Path) -> Result<(), String> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
        format!("can't make the state folder {}: {error}; give a folder that this user may write", folder.display())
    })
}

/// Whole or not at all, readable by the owner only.
pub(super) fn write_private(file: &Path, bytes: &[u8]) -> Result<(), String> {
    let draft = file.with_extension(format!("{}.new", std::process::id()));
    let write = || -> io::Result<()> {
        let mut out = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        out.write_all(bytes)?;
        out.sync_all()?;
        fs::rename(&draft, file)?;
        // Names are the folder's: after a power cut a new certificate must not stand beside the key of before.
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&draft);
        format!("can't write {}: {error}; give a state folder that this user may write", file.display())
    })
}
