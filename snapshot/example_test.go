package snapshot_test

import (
	"fmt"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/snapshot"
	"repld/wal"
)

// A receiver asks for the files that it does not have, writes them, and gives the directory its final name.
func ExampleReceiver() {
	content := []byte("the state")
	m := snapshot.Manifest{
		Format: snapshot.Format, Cluster: "demo", Group: "default", ID: "4f2a", Position: wal.Position{Epoch: 1, LSN: 42},
		Created: time.Unix(1_800_000_000, 0),
		Files:   []snapshot.File{{Name: "000005.sst", Size: int64(len(content)), Hash: wal.Hash(xxhash.Sum64(content))}},
	}
	fs := vfs.NewMem()
	r := snapshot.NewReceiver(fs, "incoming")
	have, err := r.Begin(m)
	fmt.Println("have", len(have), err)
	w, err := r.File("000005.sst")
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = w.Write(content)
	fmt.Println(err, w.Close(), r.Complete("state.new"))
	installed, err := snapshot.ReadManifest(fs, "state.new")
	fmt.Println(installed.Position.LSN, err)
	// Output:
	// have 0 <nil>
	// <nil> <nil> <nil>
	// 42 <nil>
}
