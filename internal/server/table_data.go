package server

// Commands on keys and strings.

func stringCommands() []*command {
	const multi, incr = "request_policy:multi_shard", fWrite | fDenyOOM | fFast
	group := []*command{
		{name: "get", arity: 2, flags: fRead | fFast, keys: key1, specs: "RO access", since: "1.0.0", doc: "Returns the string of a key.", do: cmdGet},
		{name: "set", arity: -3, flags: fWrite | fDenyOOM, keys: key1, specs: "RW access update variable_flags", since: "1.0.0", doc: "Sets the string of a key, with conditions and expiry.", do: cmdSet},
		{name: "setnx", arity: 3, flags: incr, keys: key1, specs: "OW insert", since: "1.0.0", doc: "Sets the string of a key that does not exist.", do: cmdSetNX},
		{name: "setex", arity: 4, flags: fWrite | fDenyOOM, keys: key1, specs: "OW update", since: "2.0.0", doc: "Sets the string and expiry in seconds of a key.", do: cmdSetEX},
		{name: "psetex", arity: 4, flags: fWrite | fDenyOOM, keys: key1, specs: "OW update", since: "2.6.0", doc: "Sets the string and expiry in milliseconds of a key.", do: cmdSetEX},
		{name: "getset", arity: 3, flags: incr, keys: key1, specs: "RW access update", since: "1.0.0", doc: "Sets the string of a key and returns the former one.", do: cmdGetSet},
		{name: "getdel", arity: 2, flags: fWrite | fFast, keys: key1, specs: "RW access delete", since: "6.2.0", doc: "Returns the string of a key and deletes the key.", do: cmdGetDel},
		{name: "getex", arity: -2, flags: fWrite | fFast, keys: key1, specs: "RW access update", since: "6.2.0", doc: "Returns the string of a key and changes its expiry.", do: cmdGetEX},
		{name: "mget", arity: -2, flags: fRead | fFast | fPin, keys: keysAll, specs: "RO access", tips: multi, since: "1.0.0", doc: "Returns the strings of several keys, as of one moment.", do: cmdMGet},
		{name: "mset", arity: -3, flags: fWrite | fDenyOOM, keys: keysKV, specs: "OW update", tips: multi + " response_policy:all_succeeded", since: "1.0.1", doc: "Sets the strings of several keys, atomically.", do: cmdMSet},
		{name: "msetnx", arity: -3, flags: fWrite | fDenyOOM, keys: keysKV, specs: "OW insert", tips: multi + " response_policy:agg_min", since: "1.0.1", doc: "Sets the strings of several keys if none exists.", do: cmdMSetNX},
		{name: "append", arity: 3, flags: incr, keys: key1, specs: "RW insert", since: "2.0.0", doc: "Appends to the string of a key.", do: cmdAppend},
		{name: "strlen", arity: 2, flags: fRead | fFast, keys: key1, specs: "RO", since: "2.2.0", doc: "Returns the length of the string of a key.", do: cmdStrLen},
		{name: "getrange", arity: 4, flags: fRead, keys: key1, specs: "RO access", since: "2.4.0", doc: "Returns part of the string of a key.", do: cmdGetRange},
		{name: "substr", arity: 4, flags: fRead, keys: key1, specs: "RO access", since: "1.0.0", doc: "Returns part of the string of a key (old name of GETRANGE).", do: cmdGetRange},
		{name: "setrange", arity: 4, flags: fWrite | fDenyOOM, keys: key1, specs: "RW update", since: "2.2.0", doc: "Overwrites part of the string of a key.", do: cmdSetRange},
		{name: "incr", arity: 2, flags: incr, keys: key1, specs: "RW access update", since: "1.0.0", doc: "Adds 1 to the integer of a key.", do: cmdIncr},
		{name: "decr", arity: 2, flags: incr, keys: key1, specs: "RW access update", since: "1.0.0", doc: "Subtracts 1 from the integer of a key.", do: cmdDecr},
		{name: "incrby", arity: 3, flags: incr, keys: key1, specs: "RW access update", since: "1.0.0", doc: "Adds to the integer of a key.", do: cmdIncrBy},
		{name: "decrby", arity: 3, flags: incr, keys: key1, specs: "RW access update", since: "1.0.0", doc: "Subtracts from the integer of a key.", do: cmdDecrBy},
		{name: "incrbyfloat", arity: 3, flags: incr, keys: key1, specs: "RW access update", since: "2.6.0", doc: "Adds to the floating-point number of a key.", do: cmdIncrByFloat},
	}
	return inGroup("string", group)
}

func keyCommands() []*command {
	const multi = "request_policy:multi_shard response_policy:agg_sum"
	const all = "request_policy:all_shards response_policy:all_succeeded"
	const tip = "nondeterministic_output"
	object := func(name, doc string, do func(*call) error) *command {
		return &command{name: name, arity: 3, flags: fRead, keys: key2, specs: "RO", tips: tip, group: "generic", doc: doc, do: do}
	}
	group := []*command{
		{name: "del", arity: -2, flags: fWrite, keys: keysAll, specs: "RM delete", tips: multi, since: "1.0.0", doc: "Deletes keys.", do: cmdDel},
		{name: "unlink", arity: -2, flags: fWrite | fFast, keys: keysAll, specs: "RM delete", tips: multi, since: "4.0.0", doc: "Deletes keys (the same as DEL here).", do: cmdDel},
		{name: "exists", arity: -2, flags: fRead | fFast | fPin, keys: keysAll, specs: "RO", tips: multi, since: "1.0.0", doc: "Counts the keys that exist.", do: cmdExists},
		{name: "type", arity: 2, flags: fRead | fFast, keys: key1, specs: "RO", since: "1.0.0", doc: "Returns what a key holds.", do: cmdType},
		{name: "touch", arity: -2, flags: fRead | fFast | fPin, keys: keysAll, specs: "RO", tips: multi, since: "3.2.1", doc: "Counts the keys that exist.", do: cmdExists},
		{name: "rename", arity: 3, flags: fWrite, keys: keyPair, specs: "RW access delete|OW update", since: "1.0.0", doc: "Renames a key, replacing the target.", do: cmdRename},
		{name: "renamenx", arity: 3, flags: fWrite | fFast, keys: keyPair, specs: "RW access delete|OW insert", since: "1.0.0", doc: "Renames a key if the target does not exist.", do: cmdRenameNX},
		{name: "copy", arity: -3, flags: fWrite | fDenyOOM, keys: keyPair, specs: "RO access|OW update", since: "6.2.0", doc: "Copies a key.", do: cmdCopy},
		{name: "keys", arity: 2, flags: fRead | fDangerous | fAlone, tips: "request_policy:all_shards nondeterministic_output_order", since: "1.0.0", doc: "Returns the keys that match a pattern.", do: cmdKeys},
		{name: "randomkey", arity: 1, flags: fRead | fPin | fAlone, tips: "request_policy:all_shards nondeterministic_output", since: "1.0.0", doc: "Returns a random key.", do: cmdRandomKey},
		{name: "scan", arity: -2, flags: fRead | fAlone, tips: "nondeterministic_output request_policy:special", since: "2.8.0", doc: "Walks the keys in steps.", do: cmdScan},
		{name: "flushdb", arity: -1, flags: fWrite | fDangerous, tips: all, since: "1.0.0", doc: "Deletes all keys.", do: cmdFlush},
		{name: "flushall", arity: -1, flags: fWrite | fDangerous, tips: all, since: "1.0.0", doc: "Deletes all keys.", do: cmdFlush},
		{name: "dbsize", arity: 1, flags: fRead | fFast, tips: "request_policy:all_shards response_policy:agg_sum", since: "1.0.0", doc: "Counts all keys.", do: cmdDBSize},
		{name: "kv.range", arity: -3, flags: fRead | fAlone, since: "1.0.0", doc: "Returns keys with their strings in byte order of the keys: KV.RANGE start end [LIMIT n] [REV], start included, end not, - and + for the ends.", do: cmdKVRange},
		{name: "object", arity: -2, flags: fNoCats, since: "2.2.3", doc: "Tells how values are kept.", do: cmdContainer, subs: []*command{
			object("encoding", "Returns the encoding that Redis would use.", cmdObjectEncoding),
			object("freq", "Refused: there is no LFU policy.", cmdObjectFreq),
			object("idletime", "Returns 0 for a key that exists.", cmdObjectIdleTime),
			object("refcount", "Returns 1 for a key that exists.", cmdObjectRefCount),
			help("generic"),
		}},
	}
	for _, c := range group {
		if len(c.subs) > 0 {
			c.group = "generic"
		}
	}
	return inGroup("generic", group)
}

func expiryCommands() []*command {
	set := func(name, since, doc string) *command {
		return &command{name: name, arity: -3, flags: fWrite | fFast, keys: key1, specs: "RW update", since: since, doc: doc, do: cmdExpire}
	}
	get := func(name, since, tips, doc string) *command {
		return &command{name: name, arity: 2, flags: fRead | fFast, keys: key1, specs: "RO access", since: since, tips: tips, doc: doc, do: cmdTTL}
	}
	return inGroup("generic", []*command{
		set("expire", "1.0.0", "Sets the expiry of a key, seconds from now."),
		set("pexpire", "2.6.0", "Sets the expiry of a key, milliseconds from now."),
		set("expireat", "1.2.0", "Sets the expiry of a key, unix seconds."),
		set("pexpireat", "2.6.0", "Sets the expiry of a key, unix milliseconds."),
		get("ttl", "1.0.0", "nondeterministic_output", "Returns the seconds until a key expires."),
		get("pttl", "2.6.0", "nondeterministic_output", "Returns the milliseconds until a key expires."),
		get("expiretime", "7.0.0", "", "Returns the unix seconds at which a key expires."),
		get("pexpiretime", "7.0.0", "", "Returns the unix milliseconds at which a key expires."),
		{name: "persist", arity: 2, flags: fWrite | fFast, keys: key1, specs: "RW update", since: "2.2.0", doc: "Removes the expiry of a key.", do: cmdPersist},
	})
}

func transactionCommands() []*command {
	const base = fNoScript | fLoading | fStale
	return inGroup("transactions", []*command{
		{name: "multi", arity: 1, flags: base | fFast | fAllowBusy | fControl, since: "1.2.0", doc: "Begins a transaction.", do: cmdMulti},
		{name: "exec", arity: 1, flags: base | fSkipSlowlog | fControl, since: "1.2.0", doc: "Executes the transaction as one record.", do: nil}, // by Session.exec
		{name: "discard", arity: 1, flags: base | fFast | fAllowBusy | fControl, since: "2.0.0", doc: "Gives the transaction up.", do: cmdDiscard},
		{name: "watch", arity: -2, flags: base | fFast | fAllowBusy | fControl | fSequence, keys: keysAll, specs: "RO", since: "2.2.0", doc: "Makes EXEC fail if a key changes before it.", do: cmdWatch},
		{name: "unwatch", arity: 1, flags: base | fFast | fAllowBusy, since: "2.2.0", doc: "Forgets the watched keys.", do: cmdUnwatch},
	})
}

func inGroup(name string, list []*command) []*command {
	for _, c := range list {
		c.group = orString(c.group, name)
	}
	return list
}

func help(group string) *command {
	return &command{name: "help", arity: 2, flags: fLoading | fStale, group: group, doc: "Lists the subcommands.", do: cmdHelp}
}
