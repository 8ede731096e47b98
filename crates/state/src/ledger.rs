//! The accounts that a changeset touches, as they would be: judged on this overlay before anything is
//! committed.

use std::collections::BTreeMap;

use virtflow_types::{AccountDef, AccountKey, Limit, ObjectId};

use crate::account::{Account, DEPTH_MAX};
use crate::object::Object;
use crate::refused::Refused;
use crate::state::{State, effective_limit};

/// Accounts as they would be; `None` for one that closes.
pub(crate) type AccountOverlay = BTreeMap<AccountKey, Option<Account>>;

/// True if nothing that ledgers are made of changes.
pub(crate) fn same_ledger(before: Option<&Object>, after: Option<&Object>) -> bool {
    let empty = |o: &Object| {
        o.footprint.charges.is_empty()
            && o.footprint.supplies.is_empty()
            && o.footprint.accounts.is_empty()
    };
    match (before, after) {
        (Some(b), Some(a)) => {
            b.footprint.charges == a.footprint.charges
                && b.footprint.supplies == a.footprint.supplies
                && b.footprint.accounts == a.footprint.accounts
        }
        (Some(one), None) | (None, Some(one)) => empty(one),
        (None, None) => true,
    }
}

/// The accounts that a changeset touches, as they would be.
pub(crate) struct Ledger<'a> {
    state: &'a State,
    overlay: AccountOverlay,
}

impl<'a> Ledger<'a> {
    /// Begins with the accounts as they are.
    pub(crate) fn new(state: &'a State) -> Self {
        Self {
            state,
            overlay: BTreeMap::new(),
        }
    }

    /// The accounts as they will be.
    pub(crate) fn into_overlay(self) -> AccountOverlay {
        self.overlay
    }

    fn find(&self, key: &AccountKey) -> Option<Account> {
        match self.overlay.get(key) {
            Some(account) => account.clone(),
            None => self.state.accounts.get(key).cloned(),
        }
    }

    fn update(
        &mut self,
        object: ObjectId,
        key: &AccountKey,
        change: impl FnOnce(&mut Account) -> Option<()>,
    ) -> Result<Account, Refused> {
        let mut account = self.find(key).ok_or_else(|| Refused::AccountMissing {
            object,
            account: key.clone(),
        })?;
        change(&mut account)
            .ok_or_else(|| Refused::Malformed(format!("{key}: the sum leaves 64 bits")))?;
        self.overlay.insert(key.clone(), Some(account.clone()));
        Ok(account)
    }

    /// Counts `amount` in the account and all above it, or takes it out again.
    pub(crate) fn charge(
        &mut self,
        object: ObjectId,
        key: &AccountKey,
        amount: u64,
        add: bool,
    ) -> Result<(), Refused> {
        self.refer(object, key, add)?;
        self.move_used(object, Some(key.clone()), amount, add)
    }

    fn move_used(
        &mut self,
        object: ObjectId,
        from: Option<AccountKey>,
        amount: u64,
        add: bool,
    ) -> Result<(), Refused> {
        let mut next = from;
        for _ in 0..DEPTH_MAX {
            let Some(key) = next else { return Ok(()) };
            let account = self.update(object, &key, |account| {
                account.used = step(account.used, amount, add)?;
                Some(())
            })?;
            next = account.parent;
        }
        match next {
            None => Ok(()),
            Some(key) => Err(Refused::Malformed(format!(
                "{key}: more than {DEPTH_MAX} accounts above one another"
            ))),
        }
    }

    pub(crate) fn supply(
        &mut self,
        object: ObjectId,
        key: &AccountKey,
        amount: u64,
        add: bool,
    ) -> Result<(), Refused> {
        self.refer(object, key, add)?;
        self.update(object, key, |account| {
            account.supplied = step(account.supplied, amount, add)?;
            Some(())
        })
        .map(drop)
    }

    fn refer(&mut self, object: ObjectId, key: &AccountKey, add: bool) -> Result<(), Refused> {
        self.update(object, key, |account| {
            account.references = step(account.references, 1, add)?;
            Some(())
        })
        .map(drop)
    }

    /// Opens new accounts and changes limits; parents and shares follow in [`Ledger::attach`], when
    /// every account of the changeset is open.
    pub(crate) fn define(
        &mut self,
        id: ObjectId,
        before: Option<&Object>,
        after: Option<&Object>,
    ) -> Result<(), Refused> {
        for def in definitions(after) {
            let key = AccountKey::new(id, def.dimension.clone());
            if definition(before, &def.dimension).is_none() {
                self.overlay.insert(
                    key,
                    Some(Account {
                        parent: None,
                        limit: def.limit.clone(),
                        supplied: 0,
                        used: 0,
                        references: 0,
                    }),
                );
            } else {
                self.update(id, &key, |account| {
                    account.limit = def.limit.clone();
                    Some(())
                })?;
            }
        }
        Ok(())
    }

    pub(crate) fn attach(
        &mut self,
        id: ObjectId,
        before: Option<&Object>,
        after: Option<&Object>,
    ) -> Result<(), Refused> {
        for def in definitions(before) {
            if let Limit::Share { of, .. } = &def.limit {
                self.refer(id, of, false)?;
            }
        }
        for def in definitions(after) {
            if let Limit::Share { of, .. } = &def.limit {
                self.refer(id, of, true)?;
            }
            let key = AccountKey::new(id, def.dimension.clone());
            let old = definition(before, &def.dimension).and_then(|old| old.parent.clone());
            if old != def.parent {
                self.reparent(id, &key, old, def.parent.clone())?;
            }
        }
        Ok(())
    }

    /// What is counted in an account moves with it from the old parents to the new.
    fn reparent(
        &mut self,
        id: ObjectId,
        key: &AccountKey,
        old: Option<AccountKey>,
        new: Option<AccountKey>,
    ) -> Result<(), Refused> {
        let used = self.find(key).map_or(0, |account| account.used);
        if let Some(old) = &old {
            self.refer(id, old, false)?;
        }
        self.move_used(id, old, used, false)?;
        self.update(id, key, |account| {
            account.parent.clone_from(&new);
            Some(())
        })?;
        if let Some(new) = &new {
            self.refer(id, new, true)?;
            // A cycle would never end; the walk is bounded and refuses it.
            self.check_depth(key)?;
        }
        self.move_used(id, new, used, true)
    }

    fn check_depth(&self, key: &AccountKey) -> Result<(), Refused> {
        let mut at = key.clone();
        for _ in 0..DEPTH_MAX {
            match self.find(&at).and_then(|account| account.parent) {
                Some(parent) => at = parent,
                None => return Ok(()),
            }
        }
        Err(Refused::Malformed(format!(
            "{key}: more than {DEPTH_MAX} accounts above one another, or a cycle"
        )))
    }

    /// Accounts that close let go of their parents; whether they may close is judged by
    /// [`Ledger::check_closed`], when all have.
    pub(crate) fn close(
        &mut self,
        id: ObjectId,
        before: Option<&Object>,
        after: Option<&Object>,
    ) -> Result<(), Refused> {
        for def in closing(before, after) {
            if let Some(parent) = &def.parent {
                self.refer(id, parent, false)?;
            }
        }
        Ok(())
    }

    pub(crate) fn check_closed(
        &mut self,
        id: ObjectId,
        before: Option<&Object>,
        after: Option<&Object>,
    ) -> Result<(), Refused> {
        for def in closing(before, after) {
            let key = AccountKey::new(id, def.dimension.clone());
            if self
                .find(&key)
                .is_some_and(|account| account.references > 0)
            {
                return Err(Refused::AccountInUse { account: key });
            }
            self.overlay.insert(key, None);
        }
        Ok(())
    }

    pub(crate) fn check_limits(&self) -> Result<(), Refused> {
        for (key, account) in &self.overlay {
            let Some(account) = account else { continue };
            let before = self.state.accounts.get(key).map_or(0, |before| before.used);
            let limit = effective_limit(&|key| self.find(key), key).ok_or_else(|| {
                Refused::Malformed(format!(
                    "{key}: its limit is a share of nothing, or of itself"
                ))
            })?;
            if account.used > before && account.used > limit {
                return Err(Refused::OverLimit {
                    account: key.clone(),
                    limit,
                    used: before,
                    asked: account.used - before,
                });
            }
        }
        Ok(())
    }
}

fn definitions(object: Option<&Object>) -> &[AccountDef] {
    object.map_or(&[], |object| &object.footprint.accounts)
}

fn definition<'a>(object: Option<&'a Object>, dimension: &str) -> Option<&'a AccountDef> {
    definitions(object)
        .iter()
        .find(|def| def.dimension == dimension)
}

fn closing<'a>(
    before: Option<&'a Object>,
    after: Option<&'a Object>,
) -> impl Iterator<Item = &'a AccountDef> {
    definitions(before)
        .iter()
        .filter(move |def| definition(after, &def.dimension).is_none())
}

fn step(value: u64, amount: u64, add: bool) -> Option<u64> {
    if add {
        value.checked_add(amount)
    } else {
        value.checked_sub(amount)
    }
}
