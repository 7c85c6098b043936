//! Nodes over loopback, without a coordinator: their maps are made by hand.

mod loopback;
