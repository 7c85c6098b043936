//! What every driver of `Mesh` keeps, whoever runs the mesh: the same tests over each.

mod drivers;
#[macro_use]
mod laws;

every_law!(fixed tailscaled);
