//! Which route answers a host and path: exact host before wildcard before any host, and there the longest path prefix
//! that ends on a segment boundary. Pure; the table never changes once compiled.

use crate::instance::Instance;
use allod_proto::routes::{FORMAT, Route, RoutePattern, RouteTable, RouteTarget};
use std::{
    collections::HashMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// One route, ready to answer.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) route: Route,
    /// The app as text, for the log.
    pub(crate) app: String,
    pub(crate) target: Target,
    pub(crate) body_bytes: u64,
    pub(crate) response_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    turn: AtomicUsize,
}

#[derive(Debug)]
pub(crate) enum Target {
    Instances(Vec<Member>),
    Static { root: PathBuf, fallback: Option<PathBuf> },
    Stopped(String),
}

/// One instance of a route, and whose listener it must be.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) instance: Arc<Instance>,
    pub(crate) uid: Option<u32>,
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) generation: u64,
    exact: HashMap<String, Vec<Arc<Entry>>>,
    wildcard: HashMap<String, Vec<Arc<Entry>>>,
    any: Vec<Arc<Entry>>,
}

impl Table {
    /// Makes a table of a file's content. `instance` gives the one value for an address that all generations share.
    pub(crate) fn compile(
        file: &RouteTable,
        mut instance: impl FnMut(SocketAddr) -> Arc<Instance>,
    ) -> Result<Self, String> {
        if file.format != FORMAT {
            return Err(format!("the table has format {}, this program reads format {FORMAT}", file.format));
        }
        let mut table = Self { generation: file.generation, ..Self::default() };
        for route in &file.routes {
            let written = route.pattern.to_string();
            if RoutePattern::parse(&written)? != route.pattern {
                return Err(format!("route {written:?} is not in its normal form"));
            }
            table.insert(route, &mut instance)?;
        }
        let longest_first = |routes: &mut Vec<Arc<Entry>>| {
            routes.sort_by_key(|entry| std::cmp::Reverse(entry.route.pattern.path.len()));
        };
        table.exact.values_mut().for_each(longest_first);
        table.wildcard.values_mut().for_each(longest_first);
        longest_first(&mut table.any);
        Ok(table)
    }

    fn insert(
        &mut self,
        route: &Route,
        instance: &mut impl FnMut(SocketAddr) -> Arc<Instance>,
    ) -> Result<(), String> {
        let routes = match &route.pattern.host {
            None => &mut self.any,
            Some(host) => match host.strip_prefix("*.") {
                Some(parent) => self.wildcard.entry(parent.to_owned()).or_default(),
                None => self.exact.entry(host.clone()).or_default(),
            },
        };
        if let Some(first) = routes.iter().find(|entry| entry.route.pattern == route.pattern) {
            return Err(format!(
                "route {:?} is claimed by {} and {}",
                route.pattern.to_string(),
                first.app,
                route.app
            ));
        }
        routes.push(Arc::new(Entry::new(route, instance)));
        Ok(())
    }

    /// The route for a request. `host` is lower-case, without port and final dot; `path` begins with `/`.
    pub(crate) fn find(&self, host: Option<&str>, path: &str) -> Option<&Arc<Entry>> {
        let longest = |routes: &'_ Vec<Arc<Entry>>| -> Option<usize> {
            routes.iter().position(|entry| covers(&entry.route.pattern.path, path))
        };
        let exact = host.and_then(|host| self.exact.get(host));
        let wildcard = host
            .filter(|_| !self.wildcard.is_empty())
            .and_then(|host| host.split_once('.'))
            .filter(|(label, _)| !label.is_empty())
            .and_then(|(_, parent)| self.wildcard.get(parent));
        [exact, wildcard, Some(&self.any)]
            .into_iter()
            .flatten()
            .find_map(|routes| longest(routes).and_then(|at| routes.get(at)))
    }

    /// Whether any route leads to this address.
    pub(crate) fn serves(&self, address: SocketAddr) -> bool {
        let leads = |entry: &Arc<Entry>| match &entry.target {
            Target::Instances(members) => members.iter().any(|member| member.instance.address == address),
            Target::Static { .. } | Target::Stopped(_) => false,
        };
        self.exact.values().chain(self.wildcard.values()).flatten().chain(&self.any).any(leads)
    }
}

impl Entry {
    fn new(route: &Route, instance: &mut impl FnMut(SocketAddr) -> Arc<Instance>) -> Self {
        let target = match &route.target {
            RouteTarget::Instances(upstreams) => Target::Instances(
                upstreams.iter().map(|u| Member { instance: instance(u.address), uid: u.uid }).collect(),
            ),
            RouteTarget::Static { root, fallback } => {
                Target::Static { root: root.clone(), fallback: fallback.clone() }
            }
            RouteTarget::Stopped { message } => Target::Stopped(message.clone()),
        };
        Self {
            app: route.app.to_string(),
            target,
            body_bytes: route.limits.body_bytes,
            response_timeout: Duration::from_millis(route.limits.response_timeout_ms),
            idle_timeout: Duration::from_millis(route.limits.idle_timeout_ms),
            turn: AtomicUsize::new(0),
            route: route.clone(),
        }
    }

    /// The next member in turn that is not among those already tried.
    pub(crate) fn next_member(&self, tried: &[SocketAddr]) -> Option<&Member> {
        let Target::Instances(members) = &self.target else { return None };
        if let [only] = members.as_slice() {
            return (!tried.contains(&only.instance.address)).then_some(only);
        }
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        (0..members.len())
            .filter_map(|step| members.get(first.wrapping_add(step) % members.len()))
            .find(|member| !tried.contains(&member.instance.address))
    }

    /// The path with query as the instance sees it.
    pub(crate) fn rewrite<'p>(&self, path_and_query: &'p str) -> std::borrow::Cow<'p, str> {
        let prefix = self.route.pattern.path.as_str();
        if !self.route.strip_prefix || prefix == "/" {
            return path_and_query.into();
        }
        match path_and_query.strip_prefix(prefix) {
            Some(rest) if rest.starts_with('/') => rest.into(),
            Some(rest) => format!("/{rest}").into(),
            None => path_and_query.into(),
        }
    }
}

/// Whether a prefix covers a path on a segment boundary.
fn covers(prefix: &str, path: &str) -> bool {
    prefix == "/" || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests;
