package node

import (
	"log/slog"
	"maps"
	"slices"
	"sync"

	"repld/internal/events"
)

// alarms are the conditions that a person should know of, by name; each is one sentence, shown in status until it is cleared.
type alarms struct {
	journal *events.Log
	mu      sync.Mutex
	by      map[string]string
}

func newAlarms(journal *events.Log) *alarms {
	return &alarms{journal: journal, by: map[string]string{}}
}

func (a *alarms) raise(name, text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, raised := a.by[name]; !raised { // a text that changes, with a number in it, is the same alarm
		a.journal.Record(events.Alarm, "alarm raised", slog.String("alarm", name), slog.String("text", text))
	}
	a.by[name] = text
}

func (a *alarms) clear(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, raised := a.by[name]; raised {
		a.journal.Record(events.Cleared, "alarm cleared", slog.String("alarm", name))
	}
	delete(a.by, name)
}

// list returns the alarms in order of their names.
func (a *alarms) list() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []string
	for _, name := range slices.Sorted(maps.Keys(a.by)) {
		all = append(all, a.by[name])
	}
	return all
}

// get returns one alarm's text, "" if it is not raised.
func (a *alarms) get(name string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.by[name]
}
