package torture

import "context"

// scenario is one way to hurt a cluster.
type scenario struct {
	name  string
	about string // one line for a person
	rows  []string
	share int                    // of the budget, relative to the others
	needs func(o Options) string // why it cannot run here, "" if it can; nil: it always can
	kills bool                   // counts towards MinKills
	cuts  bool                   // counts towards MinCuts
	run   func(ctx context.Context, p *play) error
}

// scenarios lists all, in the order in which they run: the most valuable first.
func scenarios() []scenario {
	return []scenario{
		killScenario(),
		failpointScenario(),
		restartScenario(),
		freezeScenario(),
		automaticScenario(),
		automaticFileScenario(),
		automaticEtcdScenario(),
		powerAloneScenario(),
		powerScenario(),
		lossyScenario(),
		wireScenario(),
		partitionScenario(),
		saturationScenario(),
		straceScenario(),
		fullScenario(),
		operatorScenario(),
		restoreScenario(),
	}
}

// Names lists the scenarios.
func Names() (names []string) {
	for _, s := range scenarios() {
		names = append(names, s.name)
	}
	return names
}

// About describes them: name, one line, rows of the fault catalogue.
func About() (lines [][3]string) {
	for _, s := range scenarios() {
		rows := ""
		for _, r := range s.rows {
			rows += r + " "
		}
		lines = append(lines, [3]string{s.name, s.about, rows})
	}
	return lines
}

func find(name string) (scenario, bool) {
	for _, s := range scenarios() {
		if s.name == name {
			return s, true
		}
	}
	return scenario{}, false
}
