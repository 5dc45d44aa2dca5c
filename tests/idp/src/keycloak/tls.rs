//! A server's own certificate authority, and the files that Keycloak reads of it.

use std::{fs, path::PathBuf};

use crate::server::Authority;

use super::{Error, server::free_port};

/// The authority, and where its files are; they go with it.
#[derive(Debug)]
pub(super) struct Tls {
    pub(super) authority: Authority,
    folder: PathBuf,
}

impl Tls {
    /// An authority whose files are in this folder of its own.
    pub(super) fn new(folder: PathBuf) -> Result<Self, Error> {
        let authority = Authority::new();
        let (certificate, key) = authority.for_loopback();
        fs::create_dir_all(&folder)?;
        let tls = Self { authority, folder };
        fs::write(tls.folder.join("server.pem"), certificate.pem())?;
        fs::write(tls.folder.join("server-key.pem"), key.serialize_pem())?;
        fs::write(tls.folder.join("authority.pem"), tls.authority.pem())?;
        Ok(tls)
    }

    /// The options for a server with TLS on this port.
    pub(super) fn options(&self, port: u16) -> Result<[String; 5], Error> {
        let file = |name: &str| self.folder.join(name).display().to_string();
        Ok([
            format!("--https-port={port}"),
            // It speaks plain HTTP besides, at a port that nobody uses.
            format!("--http-port={}", free_port()?),
            format!("--https-certificate-file={}", file("server.pem")),
            format!("--https-certificate-key-file={}", file("server-key.pem")),
            format!("--truststore-paths={}", file("authority.pem")),
        ])
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        // What is left is of no use to anybody.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
