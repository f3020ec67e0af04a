package node

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/kv"
)

// TestDigestsBacklog: a node that comes upon many old marks, as after a restart, answers the newest: somebody waits for that one.
func TestDigestsBacklog(t *testing.T) {
	st, err := kv.Open(kv.Options{FS: vfs.NewMem(), Dir: "state"})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	d := newDigests("a", 0, slog.New(slog.DiscardHandler))
	const marks = 3 * keptDigests
	for i := range marks {
		sn, err := st.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		d.marked(kv.Mark{ID: fmt.Sprint(i), Snapshot: sn})
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.run(ctx) }()
	for i := marks - keptDigests; i < marks; i++ {
		late, giveUp := context.WithTimeout(ctx, patience)
		r, err := d.wait(late, fmt.Sprint(i))
		giveUp()
		if err != nil || r.Error != "" {
			t.Errorf("mark %d of %d: %v %s", i, marks, err, r.Error)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}
