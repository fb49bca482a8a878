//! Cloud role mapping: groups that stand for roles at a cloud provider, and a simulated IAM that has the bindings.
//!
//! What the directory says is wanted; what the provider has is another thing, and follows after the provider's delay. Each
//! difference is a step of its own, which the sync log shows as pending and then enforced. **Invariant:** a binding that
//! is not wanted any more is taken back even while its grant is still on its way, and a step that the provider refuses
//! is tried again.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::directory::{Directory, Scope};
use crate::store::{Changes, Stored, Table, Tenant, Unreadable};
use crate::sync_log::What;

/// A tenant's mappings, and what the providers have.
#[derive(Debug, Default)]
pub(crate) struct Cloud {
    /// Mappings by identifier.
    pub mappings: Table<Mapping>,
    bindings: Table<Binding>,
    steps: Table<Step>,
}

/// A provider.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Provider {
    /// Amazon Web Services.
    Aws,
    /// Google Cloud.
    Gcp,
}

/// Members of a group have a role in a project or account.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema)]
pub(crate) struct Mapping {
    /// Identifier.
    pub id: String,
    /// The group.
    pub group_id: String,
    /// The provider.
    pub provider: Provider,
    /// Role as the provider names it: `roles/editor`, or the ARN of a role.
    pub role: String,
    /// Project or account.
    pub resource: String,
}

/// A role that the provider has bound to a user.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize, schemars::JsonSchema)]
pub(crate) struct Binding {
    /// The provider.
    pub provider: Provider,
    /// Project or account.
    pub resource: String,
    /// The role.
    pub role: String,
    /// The user's address: there is no other identity at the provider.
    pub member: String,
}

/// A change on its way to a provider.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Step {
    binding: Binding,
    grant: bool,
    /// When it arrives, milliseconds since the epoch.
    due_ms: u64,
}

// === impl Provider ===

impl Provider {
    fn name(self) -> &'static str {
        match self {
            Provider::Aws => "AWS",
            Provider::Gcp => "GCP",
        }
    }
}

// === impl Binding ===

impl Binding {
    fn id(&self) -> String {
        let Binding { provider, resource, role, member } = self;
        // A space is in none of them.
        format!("{provider:?} {resource} {role} {member}")
    }
}

// === impl Cloud ===

impl Cloud {
    /// What the providers have.
    pub(crate) fn bindings(&self) -> impl Iterator<Item = &Binding> {
        self.bindings.values()
    }

    /// How many steps are on their way.
    pub(crate) fn pending(&self) -> usize {
        self.steps.len()
    }

    /// Hands over what changed since the last time.
    pub(crate) fn drain(&mut self, changes: &mut Changes) {
        let Cloud { mappings, bindings, steps } = self;
        mappings.drain("cloud_mapping", changes);
        bindings.drain("cloud_binding", changes);
        steps.drain("cloud_step", changes);
    }

    /// The mappings and bindings as they were written.
    pub(crate) fn load(stored: &mut Stored) -> Result<Cloud, Unreadable> {
        Ok(Cloud {
            mappings: Table::load("cloud_mapping", stored)?,
            bindings: Table::load("cloud_binding", stored)?,
            steps: Table::load("cloud_step", stored)?,
        })
    }

    fn wanted(&self, directory: &Directory) -> BTreeMap<String, (Binding, Option<String>)> {
        let mut wanted = BTreeMap::new();
        for Mapping { id: _, group_id, provider, role, resource } in self.mappings.values() {
            let Ok(group) = directory.group(&Scope::Tenant, group_id) else { continue };
            let members = group.members.iter().filter_map(|id| directory.user(&Scope::Tenant, id).ok());
            for user in members.filter(|user| user.active) {
                let binding = Binding {
                    provider: *provider,
                    resource: resource.clone(),
                    role: role.clone(),
                    member: user.email().unwrap_or(&user.user_name).replace(' ', "%20"),
                };
                wanted.insert(binding.id(), (binding, user.org.clone()));
            }
        }
        wanted
    }
}

// === impl Tenant ===

impl Tenant {
    /// Whether [`Tenant::sync_cloud`] may have something to do.
    pub(crate) fn has_cloud(&self) -> bool {
        self.cloud.mappings.len() + self.cloud.bindings.len() + self.cloud.steps.len() > 0
    }

    /// Sends the providers what they do not have yet, and lets arrive what is due, unless they are `down`. Whether
    /// anything happened.
    pub(crate) fn sync_cloud(&mut self, now: Duration, down: bool) -> bool {
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let wanted = self.cloud.wanted(&self.directory);
        let mut changed = false;
        let grants = wanted.iter().filter(|(id, _)| !self.cloud.bindings.contains(id));
        let mut steps: Vec<(Binding, bool, Option<String>)> =
            grants.map(|(_, (binding, org))| (binding.clone(), true, org.clone())).collect();
        let gone = self.cloud.bindings.iter().filter(|(id, _)| !wanted.contains_key(*id));
        steps.extend(gone.map(|(_, binding)| (binding.clone(), false, None)));
        // A grant on its way that nobody wants any more never arrives.
        let stale = self.cloud.steps.iter().filter(|(id, step)| {
            step.grant != wanted.contains_key(*id) || step.grant == self.cloud.bindings.contains(id)
        });
        let stale: Vec<String> = stale.map(|(id, _)| id.clone()).collect();
        for id in stale {
            self.cloud.steps.remove(&id);
            self.sync_log.cancelled(&id, now);
            changed = true;
        }
        for (binding, grant, org) in steps {
            let id = binding.id();
            if self.cloud.steps.contains(&id) {
                continue;
            }
            let what = What {
                source: binding.provider.name().to_owned(),
                event: if grant { "Cloud access granted" } else { "Cloud access revoked" },
                detail: format!("{} ({} on {})", binding.member, binding.role, binding.resource),
                org,
            };
            self.sync_log.waiting_for_step(what, &id, now);
            let due_ms = now_ms.saturating_add(self.cloud_delay_s.saturating_mul(1000));
            self.cloud.steps.insert(id, Step { binding, grant, due_ms });
            changed = true;
        }
        let due = self.cloud.steps.iter().filter(|(_, step)| step.due_ms <= now_ms && !down);
        let due: Vec<String> = due.map(|(id, _)| id.clone()).collect();
        for id in due {
            let Some(Step { binding, grant, due_ms: _ }) = self.cloud.steps.remove(&id) else { continue };
            if grant {
                self.cloud.bindings.insert(id.clone(), binding);
            } else {
                self.cloud.bindings.remove(&id);
            }
            self.sync_log.step_done(&id, now);
            changed = true;
        }
        changed
    }
}
