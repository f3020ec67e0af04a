package wal_test

import (
	"context"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/wal"
)

// A service's records are appended by a Writer and followed by a Reader.
func Example() {
	l, _, err := wal.Open(wal.Options{
		FS:           vfs.NewMem(),
		Dir:          "wal",
		Identity:     wal.Identity{Cluster: "demo", Group: "default"},
		SegmentBytes: 64 << 10, // small, because it is in memory
	})
	if err != nil {
		panic(err)
	}
	durable := make(chan wal.Position, 16)
	w, err := l.NewWriter(wal.WriterOptions{Epoch: 1, OnDurable: func(p wal.Position) { durable <- p }})
	if err != nil {
		panic(err)
	}
	lsn, err := w.Append(wal.KindEffects, []byte("hello"))
	if err != nil {
		panic(err)
	}
	fmt.Println("durable:", (<-durable).LSN >= lsn)

	r, err := l.NewReader(0)
	if err != nil {
		panic(err)
	}
	defer r.Close()
	f, err := r.Next(context.Background())
	if err != nil {
		panic(err)
	}
	err = f.Each(func(r wal.Record) error {
		fmt.Println(r.LSN, r.Kind, string(r.Payload))
		return nil
	})
	if err != nil {
		panic(err)
	}
	if err := l.Close(); err != nil {
		panic(err)
	}
	// Output:
	// durable: true
	// 1 effects hello
}
