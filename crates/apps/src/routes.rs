//! The proxy's routes: what an app wants of it, and the table with that in place of what the app had. A route belongs
//! to the app that has it first.

use allod_proto::{
    AppRef,
    executor::{Instance, Release},
    routes::{Route, RoutePattern, RouteTable, RouteTarget, Upstream},
    spec::UnitKind,
};
use std::{collections::BTreeMap, path::PathBuf};

/// A route that another app owns.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("route {pattern} belongs to {owner}")]
pub struct Conflict {
    /// The route.
    pub pattern: RoutePattern,
    /// Who has it; the app itself if it names the route twice.
    pub owner: AppRef,
}

/// The routes of an app whose `release` serves from those of `instances` that are of this release and run.
#[must_use]
pub fn routes_of(app: &AppRef, release: &Release, instances: &[Instance], stopped: bool) -> Vec<Route> {
    let mut routes = Vec::new();
    for (name, unit) in &release.spec.units {
        let target = if stopped {
            RouteTarget::Stopped { message: format!("{} is stopped.", app.name) }
        } else {
            match &unit.kind {
                UnitKind::Process(_) => RouteTarget::Instances(
                    instances
                        .iter()
                        .filter(|instance| instance.app == *app && instance.unit == *name)
                        .filter(|instance| instance.release == release.id && instance.exit.is_none())
                        .filter_map(|instance| {
                            Some(Upstream { address: instance.address?, uid: instance.uid })
                        })
                        .collect(),
                ),
                UnitKind::Static(site) => RouteTarget::Static {
                    root: if site.root.is_empty() {
                        release.files.clone()
                    } else {
                        release.files.join(&site.root)
                    },
                    fallback: site.fallback.as_ref().map(PathBuf::from),
                },
            }
        };
        routes.extend(unit.routes.iter().map(|pattern| Route {
            app: app.clone(),
            unit: name.clone(),
            release: release.id.clone(),
            pattern: pattern.clone(),
            strip_prefix: unit.strip_prefix,
            target: target.clone(),
            limits: unit.limits.clone(),
        }));
    }
    routes
}

/// The next table: `routes` in place of what the app had, the other apps' as they were, one generation on.
///
/// # Errors
/// The first route that another app owns, or that `routes` has twice.
pub fn merge(table: &RouteTable, app: &AppRef, routes: Vec<Route>) -> Result<RouteTable, Conflict> {
    let mut merged: Vec<Route> = table.routes.iter().filter(|route| route.app != *app).cloned().collect();
    let mut owners: BTreeMap<RoutePattern, AppRef> =
        merged.iter().map(|route| (route.pattern.clone(), route.app.clone())).collect();
    for route in &routes {
        if let Some(owner) = owners.insert(route.pattern.clone(), app.clone()) {
            return Err(Conflict { pattern: route.pattern.clone(), owner });
        }
    }
    merged.extend(routes);
    merged.sort_by(|a, b| (&a.app, &a.pattern).cmp(&(&b.app, &b.pattern)));
    Ok(RouteTable { format: table.format, generation: table.generation.saturating_add(1), routes: merged })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{app, instance, release, spec};

    #[test]
    fn a_route_of_another_app_is_refused_and_its_owner_named() {
        let release = release('a', spec());
        let routes = routes_of(&app(), &release, &[], false);
        let table = merge(&RouteTable::empty(), &app(), routes.clone()).unwrap();
        let other: AppRef = "blog".parse().unwrap();
        let theirs = routes.iter().map(|route| Route { app: other.clone(), ..route.clone() }).collect();
        let conflict = merge(&table, &other, theirs).unwrap_err();
        assert_eq!(conflict.to_string(), "route example.com belongs to shop/production");
    }

    #[test]
    fn a_route_twice_is_refused() {
        let release = release('a', spec());
        let mut routes = routes_of(&app(), &release, &[], false);
        routes.extend(routes.clone());
        assert_eq!(merge(&RouteTable::empty(), &app(), routes).unwrap_err().owner, app());
    }

    #[test]
    fn another_environment_of_the_same_app_is_another_app() {
        let release = release('a', spec());
        let table = merge(&RouteTable::empty(), &app(), routes_of(&app(), &release, &[], false)).unwrap();
        let staging: AppRef = "shop/staging".parse().unwrap();
        assert!(merge(&table, &staging, routes_of(&staging, &release, &[], false)).is_err());
    }

    #[test]
    fn an_app_gives_back_what_it_no_longer_names() {
        let release = release('a', spec());
        let table = merge(&RouteTable::empty(), &app(), routes_of(&app(), &release, &[], false)).unwrap();
        let other: AppRef = "blog".parse().unwrap();
        let theirs: Vec<Route> =
            table.routes.iter().map(|route| Route { app: other.clone(), ..route.clone() }).collect();
        let table = merge(&table, &app(), Vec::new()).unwrap();
        let table = merge(&table, &other, theirs).unwrap();
        assert_eq!((table.generation, table.routes.len()), (3, 2));
    }

    #[test]
    fn only_running_instances_of_the_release_are_upstreams() {
        let (current, other) = (release('a', spec()), release('b', spec()));
        let mut ended = instance("web", 2, &current);
        ended.exit = Some("signal 9".to_owned());
        let instances = [
            instance("web", 1, &current),
            ended,
            instance("web", 3, &other),
            instance("worker", 4, &current),
        ];
        let routes = routes_of(&app(), &current, &instances, false);
        let web = routes.iter().find(|route| route.unit.as_str() == "web").unwrap();
        let upstream = Upstream { address: "127.0.0.1:20001".parse().unwrap(), uid: Some(2_000) };
        assert_eq!(web.target, RouteTarget::Instances(vec![upstream]));
    }
}
