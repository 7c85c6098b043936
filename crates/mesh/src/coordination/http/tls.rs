//! TLS to a coordinator that is administered.

use crate::{coordination::CoordinationError, tls};
use rustls::pki_types::ServerName;
use std::path::Path;
use tokio_rustls::TlsConnector;

pub(super) fn connector(file: Option<&Path>) -> Result<TlsConnector, CoordinationError> {
    let config = tls::client_config(file).map_err(|error| unusable(error.to_string()))?;
    Ok(TlsConnector::from(config))
}

pub(super) fn name(host: &str) -> Result<ServerName<'static>, CoordinationError> {
    ServerName::try_from(host.to_owned()).map_err(|_| unusable(format!("`{host}` is no name of a host")))
}

fn unusable(why: String) -> CoordinationError {
    CoordinationError::Unreachable { at: "TLS".to_owned(), why }
}
