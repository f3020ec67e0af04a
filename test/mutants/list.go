package mutants

// Mutant is one mistake.
type Mutant struct {
	Name     string
	Rule     string // of DESIGN, or row of FAULTS
	Critical bool
	File     string // in the repository
	Find     string // exactly once in File
	Replace  string
	Layers   []Layer // who should catch it, the nearest first
	Hangs    bool    // its tests do not end: that is how it is caught
}

// Layer is some tests.
type Layer struct {
	Name    string
	Package string // ./…
	Run     string // of go test; "" = all
}

// only narrows a layer to some of its tests: those that are there to catch a mistake, and not whichever another one's timing upsets.
func (l Layer) only(run string) Layer {
	l.Run = run
	return l
}

// Layers.
var (
	logTests       = Layer{Name: "wal", Package: "./wal"}
	logQuick       = Layer{Name: "wal", Package: "./wal", Run: "Append|Decide|Every|Short|Fill|Frame|Lookup|Truncat|Reset|Reader|Diverged|Recover$|Salvage|Verify|Tail"}
	failoverTests  = Layer{Name: "failover", Package: "./failover", Run: "Slots|Fence|Decide|Advance|Token|FileStore"}
	replicateTests = Layer{Name: "replicate", Package: "./replicate"}
	raftTests      = Layer{Name: "raftstore", Package: "./failover/raftstore", Run: "TestJournal"}
	clientTests    = Layer{Name: "client", Package: "./client"}
	snapshotTests  = Layer{Name: "snapshot", Package: "./snapshot"}
	stateTests     = Layer{Name: "kv", Package: "./internal/kv"}
	nodeTests      = Layer{Name: "node", Package: "./internal/node"}
	crashTests     = Layer{Name: "crashlife", Package: "./test/crashlife"}
	coreTests      = Layer{Name: "coresim", Package: "./test/coresim", Run: "TestSeeds|TestCareless"}
	simTests       = Layer{Name: "sim", Package: "./test/sim", Run: "TestSeeds"}
)

func layers(l ...Layer) []Layer { return l }

// List is all mistakes.
func List() []Mutant {
	var all []Mutant
	for _, part := range [][]Mutant{logMutants, failoverMutants, replicateMutants, electionMutants, nodeMutants, stateMutants} {
		all = append(all, part...)
	}
	return all
}
