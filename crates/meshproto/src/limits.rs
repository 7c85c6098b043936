//! How much of anything is read. Whatever is longer is refused, by both ends alike; bytes unless the name says otherwise.

/// The body of a register request, of a map request, and of a register reply.
pub const SMALL_BODY: usize = 256 * 1024;
/// The reply of `/key`.
pub const KEY_REPLY: usize = 4 * 1024;
/// One map frame as it travels, compressed or not, without its length.
pub const MAP_FRAME: usize = 8 * 1024 * 1024;
/// One map response as JSON.
pub const MAP_JSON: usize = 32 * 1024 * 1024;
/// What the lists and maps of one message may take in memory besides its text.
pub const MESSAGE_MEMORY: usize = 64 * 1024 * 1024;
/// Peers in one map.
pub const PEERS: usize = 10_000;
/// Endpoints of one node.
pub const ENDPOINTS: usize = 64;
/// Addresses, routes or allowed prefixes of one node.
pub const PREFIXES: usize = 1_024;
/// A name: of a node, a host, a domain, a user.
pub const NAME: usize = 255;
/// Named packet filters in one map.
pub const FILTERS: usize = 1_024;
/// Rules in all packet filters of one map.
pub const FILTER_RULES: usize = 65_536;
/// Sources, or destinations, of one rule.
pub const RULE_ENTRIES: usize = 65_536;
/// Regions of a relay map, and relays of one region.
pub const REGIONS: usize = 1_024;
/// User profiles in one map.
pub const PROFILES: usize = 20_000;
/// The JSON of an early payload.
pub const EARLY_PAYLOAD: usize = 16 * 1024;
/// A packet through a relay.
pub const DERP_PACKET: usize = 64 * 1024;
/// The JSON that relay and client say of themselves.
pub const DERP_INFO: usize = 4 * 1024;
/// Candidates in one disco `CallMeMaybe`.
pub const CANDIDATES: usize = 64;
/// A disco message with its envelope: no datagram of this network is longer.
pub const DISCO_MESSAGE: usize = 2 * 1024;
/// A STUN message.
pub const STUN_MESSAGE: usize = 1_500;
