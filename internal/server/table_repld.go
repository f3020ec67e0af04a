package server

// repldCommands are those that Redis does not have, for clients that know more than Redis': see package client.
func repldCommands() []*command {
	return inGroup("repld", []*command{
		{name: "repld.epoch", cats: "@connection", arity: -1, flags: fNoScript | fLoading | fStale | fFast | fNoMulti, since: "1.0.0", do: cmdEpoch,
			doc: "Returns epoch, role and node names: REPLD.EPOCH [seen]. A node whose epoch is below the one that the client has seen refuses and closes the connection."},
		{name: "repld.once", arity: -4, flags: fWrite | fDenyOOM | fNoScript | fNoMulti, since: "1.0.0", do: cmdOnce,
			doc: "Executes a write at most once: REPLD.ONCE id ttl-ms command [argument ...]. Repeated with the same id within ttl it answers the first result, on a new active too."},
		{name: "repld.receipt", arity: -2, flags: fWrite | fDenyOOM | fNoScript | fNoMulti, since: "1.0.0", do: cmdReceipt,
			doc: "Executes a write and answers [reply, receipt]: REPLD.RECEIPT command [argument ...]. The receipt is epoch/LSN/chain hash; command may be REPLD.ONCE."},
		{name: "repld.receipts", cats: "@connection", arity: 2, flags: fNoScript | fLoading | fStale | fFast | fNoMulti, since: "1.0.0", do: cmdReceipts,
			doc: "With ON, all writes of this connection, and EXEC, are answered [reply, receipt]; OFF ends it."},
		{name: "repld.history", cats: "@connection", arity: 2, flags: fNoScript | fLoading | fStale | fNoMulti | fAlone, since: "1.0.0", do: cmdHistory,
			doc: "Says whether a receipt's write is in the history of the node that is asked: [in | not-in | unknown, reason]."},
	})
}
