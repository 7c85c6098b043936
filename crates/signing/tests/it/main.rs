//! Against the real `ssh-keygen`: what it signs is accepted here, what is signed here is accepted by it, for every kind
//! of key and certificate.

#[cfg(test)]
mod certificates;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod peer;
#[cfg(test)]
mod version_1;
#[cfg(test)]
mod worked;
