//! Certificates: from PEM files, or made here and kept in the state directory.

use crate::auth::token::write_private;
use crate::config::TlsSource;
use crate::error::StartError;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;

/// Certificate and key in the state directory.
const SELF_SIGNED: &str = "tls-self-signed.pem";

/// The TLS half of the HTTPS listener.
pub struct Tls {
    state_dir: PathBuf,
    names: Vec<String>,
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Loads or makes the certificate. `names` go into one that is made.
    ///
    /// # Errors
    /// No usable certificate.
    pub fn load(source: &TlsSource, state_dir: &Path, names: Vec<String>) -> Result<Tls, StartError> {
        let config = server_config(source, state_dir, &names)?;
        Ok(Tls { state_dir: state_dir.to_owned(), names, current: RwLock::new(Arc::new(config)) })
    }

    /// Reads the files again, which may be others now. On an error the old certificate stays.
    ///
    /// # Errors
    /// No usable certificate.
    pub fn reload(&self, source: &TlsSource) -> Result<(), StartError> {
        let config = server_config(source, &self.state_dir, &self.names)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
        Ok(())
    }

    /// For the next connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone().into()
    }
}

fn server_config(source: &TlsSource, state_dir: &Path, names: &[String]) -> Result<ServerConfig, StartError> {
    let (chain, key) = match source {
        TlsSource::Files { cert, key } => (read_chain(cert, "--tls-cert")?, read_key(key, "--tls-key")?),
        TlsSource::SelfSigned => {
            let path = self_signed(state_dir, names)?;
            (read_chain(&path, "--tls-self-signed")?, read_key(&path, "--tls-self-signed")?)
        }
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(StartError::Certificate)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(StartError::Certificate)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn read_chain(path: &Path, key: &'static str) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let wanted = "certificate";
    let chain = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| pem_error(path, key, wanted, error))?;
    if chain.is_empty() {
        return Err(StartError::PemEmpty { path: path.to_owned(), key, wanted });
    }
    Ok(chain)
}

fn read_key(path: &Path, key: &'static str) -> Result<PrivateKeyDer<'static>, StartError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| pem_error(path, key, "private key", error))
}

fn pem_error(path: &Path, key: &'static str, wanted: &'static str, error: pem::Error) -> StartError {
    let path = path.to_owned();
    match error {
        pem::Error::Io(cause) => StartError::PemUnreadable { path, key, cause },
        _ => StartError::PemEmpty { path, key, wanted },
    }
}

/// The file with a certificate for `names`: the one that is there, if it was made for the same names.
fn self_signed(state_dir: &Path, names: &[String]) -> Result<PathBuf, StartError> {
    let path = state_dir.join(SELF_SIGNED);
    let title = format!("Made by uringcast for {}", names.join(", "));
    let kept = fs::read_to_string(&path).is_ok_and(|text| text.lines().next() == Some(title.as_str()));
    if kept {
        return Ok(path);
    }
    let made = rcgen::generate_simple_self_signed(names).map_err(StartError::SelfSigned)?;
    let text = format!("{title}\n{}{}", made.cert.pem(), made.signing_key.serialize_pem());
    let written: io::Result<()> = write_private(&path, &text);
    written.map_err(|cause| StartError::StateDir { path: state_dir.to_owned(), cause })?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("uringcast-tls-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("folder");
        path
    }

    fn names(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_made_certificate_is_kept_until_its_names_change() {
        let folder = folder("kept");
        let text = || fs::read_to_string(folder.join(SELF_SIGNED)).expect("file");
        Tls::load(&TlsSource::SelfSigned, &folder, names("localhost 127.0.0.1")).expect("first");
        let first = text();
        Tls::load(&TlsSource::SelfSigned, &folder, names("localhost 127.0.0.1")).expect("second");
        assert_eq!(text(), first);
        Tls::load(&TlsSource::SelfSigned, &folder, names("localhost ::1")).expect("third");
        assert_ne!(text(), first);
    }

    #[test]
    fn files_that_hold_nothing_useful_are_told_apart() {
        let folder = folder("bad");
        let text = folder.join("text");
        fs::write(&text, "no pem").expect("file");
        let load = |cert: &Path, key: &Path| {
            let source = TlsSource::Files { cert: cert.to_owned(), key: key.to_owned() };
            Tls::load(&source, &folder, Vec::new()).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert!(load(&text, &text).contains("holds no certificate in PEM form. Correct --tls-cert"));
        assert!(load(&folder.join("none"), &text).starts_with("cannot read"));
        let good = self_signed(&folder, &names("localhost")).expect("certificate");
        assert!(load(&good, &text).contains("holds no private key in PEM form. Correct --tls-key"));
        assert_eq!(load(&good, &good), "");
    }

    #[test]
    fn a_failed_reload_keeps_the_old_certificate() {
        let folder = folder("reload");
        let path = self_signed(&folder, &names("localhost")).expect("certificate");
        let source = TlsSource::Files { cert: path.clone(), key: path.clone() };
        let tls = Tls::load(&source, &folder, Vec::new()).expect("load");
        fs::write(&path, "broken").expect("file");
        assert!(tls.reload(&source).is_err());
        let _still_there = tls.acceptor();
    }
}
