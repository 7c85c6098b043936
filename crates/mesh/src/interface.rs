//! Which network interface has an address. An interface is its name and its number: one that was removed and made again
//! under its old name has another number.

use crate::MeshError;
use std::{
    io,
    net::{IpAddr, SocketAddr},
};

/// A network interface of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name, such as `tailscale0`.
    pub name: String,
    /// Its number, which no other has as long as the machine runs.
    pub index: u32,
}

/// The addresses of this machine, each with the interface that has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interfaces(Vec<(IpAddr, Interface)>);

impl Interfaces {
    /// As they are now.
    ///
    /// # Errors
    /// [`MeshError::Interfaces`] where the system doesn't tell.
    pub fn look() -> Result<Self, MeshError> {
        let failed = |source: io::Error| MeshError::Interfaces { source };
        let mut found = Vec::new();
        for entry in nix::ifaddrs::getifaddrs().map_err(|error| failed(error.into()))? {
            let Some(address) = entry.address.as_ref().and_then(address_of) else { continue };
            // Gone between the two questions: then it has no address either.
            let Ok(index) = nix::net::if_::if_nametoindex(entry.interface_name.as_str()) else { continue };
            found.push((address, Interface { name: entry.interface_name, index }));
        }
        Ok(Self(found))
    }

    /// As a test wants them.
    #[cfg(test)]
    pub(crate) fn of(found: &[(&str, &str, u32)]) -> Self {
        let one = |(address, name, index): &(&str, &str, u32)| {
            (address.parse().unwrap(), Interface { name: (*name).to_owned(), index: *index })
        };
        Self(found.iter().map(one).collect())
    }

    /// Which interface has this address.
    #[must_use]
    pub fn having(&self, address: IpAddr) -> Option<&Interface> {
        self.0.iter().find(|(own, _)| *own == address.to_canonical()).map(|(_, interface)| interface)
    }
}

fn address_of(storage: &nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    let v4 = storage.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into()).ip()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn an_address_that_nobody_has_is_on_no_interface() {
        let here = Interfaces::look().unwrap();
        assert_eq!(here.having("192.0.2.77".parse().unwrap()), None);
    }

    #[test]
    fn loopback_is_on_its_interface() {
        let here = Interfaces::look().unwrap();
        let loopback = here.having(Ipv4Addr::LOCALHOST.into()).unwrap();
        assert!(loopback.index > 0 && !loopback.name.is_empty(), "{loopback:?}");
    }
}
