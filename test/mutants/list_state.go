package mutants

var stateMutants = []Mutant{
	{Name: "state-other-history-applied", Rule: "R7", Critical: true, File: "internal/kv/apply.go",
		Find:    "case f.Prev != at.Hash || f.Epoch < at.Epoch:",
		Replace: "case false:", Layers: layers(stateTests)},
	{Name: "state-gap-applied", Rule: "R7", Critical: true, File: "internal/kv/apply.go",
		Find:    "case f.First != at.LSN+1:",
		Replace: "case f.First < at.LSN+1:", Layers: layers(stateTests)},
	{Name: "state-position-apart-from-effects", Rule: "R7", Critical: true, File: "internal/kv/apply.go",
		Find:    "s.put(g, positionRow, appendPosition(nil, g.end))",
		Replace: "defer func() { _ = s.db.Set([]byte(positionRow), appendPosition(nil, g.end), pebble.NoSync) }()", Layers: layers(stateTests, crashTests)},
	{Name: "state-durable-is-visible", Rule: "R1", Critical: true, File: "internal/kv/position.go",
		Find:    "OnlyReadGuaranteedDurable: true,",
		Replace: "OnlyReadGuaranteedDurable: false,", Layers: layers(stateTests, crashTests)},
}
