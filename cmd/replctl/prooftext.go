package main

import (
	"fmt"
	"io"
	"time"

	"repld/internal/admin"
)

// proofText says how the last comparison of all copies came out, as the node that knows of the newest one says.
func proofText(w io.Writer, st admin.ClusterStatus) {
	var last *admin.Verification
	for _, n := range st.Nodes {
		if v := n.Verified; v != nil && (last == nil || v.At.After(last.At)) {
			last = v
		}
	}
	if last == nil {
		return
	}
	how := "at a person's word"
	if last.Self {
		how = "by itself"
	}
	fmt.Fprintf(w, "last verified: %s, %s: %s\n", last.At.Format(time.DateTime), how, last.Said)
}
