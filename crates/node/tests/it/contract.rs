//! The contract of `Mesh` over the driver for a node, with a node that runs.

#[macro_use]
#[path = "../../../mesh/tests/it/contract/laws.rs"]
mod laws;

mod drivers {
    /// The driver for `allod node`: on the mesh, and waiting to be let in.
    pub(super) mod embedded {
        use super::super::laws::Subject;
        use crate::world::{World, until};
        use allod_mesh::Trouble;
        use allod_node::Way;

        pub(in super::super) async fn up() -> Subject {
            let world = World::start().await;
            let (node, mesh) = world.node("one").await;
            // Nothing changes any more: what is told and what is asked are the same.
            until(&*mesh, |status| status.troubles.is_empty()).await;
            Subject { mesh, _kept: Box::new((world, node)) }
        }

        pub(in super::super) async fn down() -> Subject {
            let world = World::start().await;
            let way = Way::Coordinator { url: world.url(), key: None };
            let node = world.run("one", world.settings("one", way));
            let mesh = node.mesh().await;
            let waits = |trouble: &Trouble| matches!(trouble, Trouble::LogIn { .. });
            until(&*mesh, |status| status.troubles.iter().any(waits)).await;
            assert!(mesh.peers().await.unwrap().is_empty());
            Subject { mesh, _kept: Box::new((world, node)) }
        }
    }
}

every_law!(embedded);
