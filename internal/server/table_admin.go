package server

// Commands on the connection, the server and its place in the group.

func connectionCommands() []*command {
	const base = fNoScript | fLoading | fStale | fFast | fNoAuth | fAllowBusy
	return inGroup("connection", []*command{
		{name: "hello", arity: -1, flags: base | fAlone, since: "6.0.0", doc: "Chooses the protocol, authenticates, names the connection.", do: cmdHello},
		{name: "auth", arity: -2, flags: base, since: "1.0.0", doc: "Authenticates.", do: cmdAuth},
		{name: "ping", arity: -1, flags: fFast, tips: "request_policy:all_shards response_policy:all_succeeded", since: "1.0.0", doc: "Answers PONG.", do: cmdPing},
		{name: "echo", arity: 2, flags: fLoading | fStale | fFast, since: "1.0.0", doc: "Answers its argument.", do: cmdEcho},
		{name: "quit", arity: -1, flags: base | fControl | fAlone, since: "1.0.0", doc: "Closes the connection.", do: cmdQuit},
		{name: "reset", arity: 1, flags: base | fControl | fAlone, since: "6.2.0", doc: "Makes the connection as new.", do: cmdReset},
		{name: "select", arity: 2, flags: fLoading | fStale | fFast, since: "1.0.0", doc: "Chooses database 0, the only one.", do: cmdSelect},
	})
}

func clientCommands() []*command {
	const base = fNoScript | fLoading | fStale
	const admin = base | fAdmin
	return inGroup("connection", []*command{
		{name: "client", arity: -2, flags: fNoCats, since: "2.4.0", doc: "Client connections.", do: cmdContainer, subs: []*command{
			{name: "id", arity: 2, flags: base, doc: "Returns the connection's number.", do: cmdClientID},
			{name: "info", arity: 2, flags: base, tips: "nondeterministic_output", doc: "Describes the connection.", do: cmdClientInfo},
			{name: "list", arity: -2, flags: admin, tips: "nondeterministic_output", doc: "Describes all connections.", do: cmdClientList},
			{name: "kill", arity: -3, flags: admin, doc: "Closes connections.", do: cmdClientKill},
			{name: "setname", arity: 3, flags: base, doc: "Names the connection.", do: cmdClientSetName},
			{name: "getname", arity: 2, flags: base, doc: "Returns the connection's name.", do: cmdClientGetName},
			{name: "setinfo", arity: 4, flags: base, since: "7.2.0", doc: "Tells the client library's name or version.", do: cmdClientSetInfo},
			{name: "reply", arity: 3, flags: base, doc: "Turns replies off, on, or skips one.", do: cmdClientReply},
			{name: "no-evict", arity: 3, flags: admin, doc: "Accepted; nothing is evicted.", do: cmdClientNoEvict},
			{name: "no-touch", arity: 3, flags: base, since: "7.2.0", doc: "Accepted; nothing is evicted.", do: cmdClientNoTouch},
			help(""),
		}},
	})
}

func serverCommands() []*command {
	const quiet = fLoading | fStale
	const admin = fAdmin | fNoScript | quiet
	const order = "nondeterministic_output_order"
	return inGroup("server", []*command{
		{name: "command", arity: -1, flags: quiet, tips: order, group: "connection", since: "2.8.13", doc: "Describes all commands.", do: cmdCommand, subs: []*command{
			{name: "count", arity: 2, flags: quiet, doc: "Counts the commands.", do: cmdCommandCount},
			{name: "info", arity: -2, flags: quiet, tips: order, doc: "Describes commands.", do: cmdCommandInfo},
			{name: "docs", arity: -2, flags: quiet, tips: order, doc: "Documents commands.", do: cmdCommandDocs},
			{name: "list", arity: -2, flags: quiet, tips: order, doc: "Names commands.", do: cmdCommandList},
			{name: "getkeys", arity: -4, flags: quiet, doc: "Returns the keys of a command line.", do: cmdCommandGetKeys},
			help(""),
		}},
		{name: "info", arity: -1, flags: quiet | fDangerous | fAlone, tips: "nondeterministic_output request_policy:all_shards response_policy:special", since: "1.0.0", doc: "Describes the server.", do: cmdInfo},
		{name: "config", arity: -2, flags: fNoCats, since: "2.0.0", doc: "Settings.", do: cmdContainer, subs: []*command{
			{name: "get", arity: -3, flags: admin, doc: "Returns settings.", do: cmdConfigGet},
			{name: "set", arity: -4, flags: admin, tips: "request_policy:all_nodes response_policy:all_succeeded", doc: "Changes settings until the next start.", do: cmdConfigSet},
			{name: "resetstat", arity: 2, flags: admin, doc: "Sets counters to zero.", do: cmdConfigResetStat},
			{name: "rewrite", arity: 2, flags: admin, doc: "Refused: the configuration file is the operator's.", do: cmdConfigRewrite},
			help("server"),
		}},
		{name: "time", arity: 1, flags: quiet | fFast, tips: "nondeterministic_output", since: "2.6.0", doc: "Returns the wall clock.", do: cmdTime},
		{name: "shutdown", arity: -1, flags: admin | fNoMulti | fAllowBusy | fBlocking | fAlone, since: "1.0.0", doc: "Stops the node.", do: cmdShutdown},
		{name: "memory", arity: -2, flags: fNoCats, since: "4.0.0", doc: "Memory use.", do: cmdContainer, subs: []*command{
			{name: "usage", arity: -3, flags: fRead, keys: key2, specs: "RO", doc: "Estimates the bytes of a key.", do: cmdMemoryUsage},
			{name: "purge", arity: 2, doc: "Accepted; the runtime gives memory back by itself.", tips: "request_policy:all_shards response_policy:all_succeeded", do: cmdOK},
			help("server"),
		}},
	})
}

func clusterCommands() []*command {
	const base = fNoScript | fLoading | fStale
	refused := func(name string, arity int, tips string) *command {
		return &command{name: name, arity: arity, flags: fStale, tips: tips, doc: "Refused: not a Redis Cluster.", do: cmdNoCluster}
	}
	const tip = "nondeterministic_output"
	return inGroup("cluster", []*command{
		{name: "role", arity: 1, flags: base | fFast | fAlone, group: "server", cats: "@admin @dangerous", since: "2.8.12", doc: "Returns the node's role in the group.", do: cmdRole},
		{name: "wait", arity: 3, flags: fNoScript | fBlocking | fAlone, group: "generic", cats: "@connection", tips: "request_policy:all_shards response_policy:agg_min", since: "3.0.0", doc: "Waits until standbys hold this connection's writes durably.", do: cmdWait},
		{name: "waitaof", arity: 4, flags: fNoScript | fBlocking | fAlone, group: "generic", cats: "@connection", since: "7.2.0", doc: "Waits until this node and standbys hold this connection's writes durably.", do: cmdWaitAOF},
		{name: "failover", arity: -1, flags: fAdmin | fNoScript | fStale | fNoMulti | fBlocking | fAlone, group: "server", since: "6.2.0", doc: "Hands the group over to a standby.", do: cmdFailover},
		{name: "readonly", arity: 1, flags: fLoading | fStale | fFast, cats: "@connection", since: "3.0.0", doc: "Refused: not a Redis Cluster.", do: cmdNoCluster},
		{name: "readwrite", arity: 1, flags: fLoading | fStale | fFast, cats: "@connection", since: "3.0.0", doc: "Refused: not a Redis Cluster.", do: cmdNoCluster},
		{name: "cluster", arity: -2, flags: fNoCats, since: "3.0.0", doc: "Refused: not a Redis Cluster.", do: cmdContainer, subs: []*command{
			refused("info", 2, tip), refused("nodes", 2, tip), refused("slots", 2, tip), refused("shards", 2, tip),
			refused("myid", 2, ""), refused("keyslot", 3, ""), refused("links", 2, tip), refused("countkeysinslot", 3, ""),
			help(""),
		}},
	})
}

func diagnosticCommands() []*command {
	const admin = fAdmin | fNoScript | fLoading | fStale
	const slow = fAdmin | fLoading | fStale
	const nodes, tip = "request_policy:all_nodes", "nondeterministic_output"
	const special = tip + " " + nodes + " response_policy:special"
	return inGroup("server", []*command{
		{name: "debug", arity: -2, flags: admin | fNoMulti | fBlocking | fAlone, since: "1.0.0", doc: "SLEEP, LOG and LASTLSN only.", do: cmdDebug},
		{name: "slowlog", arity: -2, flags: fNoCats, since: "2.2.12", doc: "Slow commands.", do: cmdContainer, subs: []*command{
			{name: "get", arity: -2, flags: slow, tips: nodes + " " + tip, doc: "Returns the latest slow commands.", do: cmdSlowlogGet},
			{name: "len", arity: 2, flags: slow, tips: nodes + " response_policy:agg_sum " + tip, doc: "Counts the slow commands kept.", do: cmdSlowlogLen},
			{name: "reset", arity: 2, flags: slow, tips: nodes + " response_policy:all_succeeded", doc: "Forgets the slow commands.", do: cmdSlowlogReset},
			help("server"),
		}},
		{name: "latency", arity: -2, flags: fNoCats, since: "2.8.13", doc: "Latency events; none are kept.", do: cmdContainer, subs: []*command{
			{name: "latest", arity: 2, flags: admin, tips: special, doc: "Returns no events.", do: cmdEmptyArray},
			{name: "history", arity: 3, flags: admin, tips: special, doc: "Returns no samples.", do: cmdEmptyArray},
			{name: "reset", arity: -2, flags: admin, tips: nodes + " response_policy:all_succeeded", doc: "Returns 0.", do: cmdZero},
			{name: "histogram", arity: -2, flags: admin, tips: special, doc: "Returns no histograms.", do: cmdEmptyMap},
			help("server"),
		}},
		{name: "function", arity: -2, flags: fNoCats, group: "scripting", since: "7.0.0", doc: "Functions; there are none.", do: cmdContainer, subs: []*command{
			{name: "flush", arity: -2, flags: fWrite | fNoScript, tips: "request_policy:all_shards response_policy:all_succeeded", doc: "Deletes all functions: there are none.", do: cmdFunctionFlush},
			{name: "list", arity: -2, flags: fNoScript, tips: "nondeterministic_output_order", doc: "Returns no libraries.", do: cmdFunctionList},
			help(""),
		}},
	})
}
