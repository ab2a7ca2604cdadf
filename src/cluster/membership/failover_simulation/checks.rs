//! What must hold after each step, and in the end.

use super::{
    oracle::{entries, entry},
    process::Process,
    world::{Outcome, World},
};
use crate::{cluster::membership::table::Change, member::Member};

impl World {
    /// In a calm run no member that lives is removed anywhere.
    pub(super) fn none_lost(&self, changes: &[Change]) -> Outcome {
        let members = &self.processes[self.masters..];
        let lives = |member: &Member| members.iter().flatten().any(|it| it.own == *member);
        for change in changes {
            if let Change::Left(member) = change
                && self.calm
                && lives(member)
            {
                return Err(format!("{} was removed and lives", member.address()));
            }
        }
        Ok(())
    }

    /// At most one master leads, of those whose clocks have run all the time.
    pub(super) fn one_leads(&self) -> Outcome {
        let masters = self.processes[..self.masters].iter().flatten();
        let masters = masters.filter(|it| it.clock.suspended.is_zero());
        let leaders: Vec<_> = masters
            .filter(|it| it.leads(self.now).is_some())
            .map(|it| it.own.address())
            .collect();
        match leaders.len() {
            0 | 1 => Ok(()),
            _ => Err(format!("{leaders:?} lead at once")),
        }
    }

    /// One master leads, and all tables and views are the same.
    pub(super) fn converged(&mut self) -> Outcome {
        let now = self.now;
        let living: Vec<_> = self.processes.iter().flatten().collect();
        let leads = |it: &&&Process| it.leads(now).is_some();
        let leader = living.iter().find(leads).ok_or("no master leads")?;
        let registry = leader.master.as_ref().and_then(|it| it.registry.as_ref());
        let registry = registry.ok_or("no register")?;
        let mut expected: Vec<_> = living.iter().map(|it| entry(&it.own)).collect();
        expected.sort();
        let known = entries(registry, &leader.own);
        if known != expected {
            return Err(format!("the register has {known:?}, not {expected:?}"));
        }
        let view = registry.view();
        for process in &living {
            let mut table: Vec<_> = process.table.list().iter().map(entry).collect();
            table.push(entry(&process.own));
            table.sort();
            if table != expected {
                return Err(format!(
                    "{} has {table:?}, not {expected:?}",
                    process.own.address()
                ));
            }
            if process.own != leader.own && process.view != view {
                let (address, own) = (process.own.address(), process.view);
                return Err(format!("{address} is in view {own}, not {view}"));
            }
        }
        Ok(())
    }
}
