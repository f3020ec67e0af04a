package main

import (
	"fmt"
	"io"
	"time"

	"repld/internal/admin"
)

// copiesText says how the copies in time stand: who is held, how far the log is archived, and which checkpoints there are.
func copiesText(w io.Writer, st admin.ClusterStatus) {
	for _, n := range st.Nodes {
		if h := n.Hold; h != nil {
			fmt.Fprintf(w, "hold: %s applies nothing since %s%s\n", n.Node, h.Since.UTC().Format(time.RFC3339), because(h.Reason))
		}
	}
	for _, n := range st.Nodes {
		if n.Archive != nil && n.Archive.Archives {
			fmt.Fprintf(w, "archive: %s\n", archiveText(n.Node, *n.Archive))
		}
	}
	for _, n := range st.Nodes {
		if s := n.Seed; s != nil {
			fmt.Fprintf(w, "seed: %s\n", seedText(n.Node, *s))
		}
	}
	for _, n := range st.Nodes {
		if c := n.Checkpoints; c != nil && c.Count > 0 {
			fmt.Fprintf(w, "checkpoints: %s has %d, the newest at LSN %d, made %s; beyond the state they take %s\n", n.Node, c.Count, c.Newest.LSN, c.Created.UTC().Format(time.RFC3339), bytesText(c.Extra))
		}
	}
}

// seedText is one line on where a node's state came from.
func seedText(node string, s admin.SeedStatus) string {
	if s.Running {
		return fmt.Sprintf("%s is being seeded from the archive: %s of %s", node, bytesText(s.Bytes), bytesText(s.Total))
	}
	var text string
	switch {
	case s.From == "":
		return node + ": " + s.Note
	case s.Archived > 0:
		text = fmt.Sprintf("%s took its state at LSN %d (%s) and the log up to LSN %d from the archive", node, s.Position.LSN, s.Snapshot, s.Archived)
	default:
		text = fmt.Sprintf("%s took its state at LSN %d (%s) from %s", node, s.Position.LSN, s.Snapshot, theSource(s.From))
	}
	if s.Note != "" {
		text += "; " + s.Note
	}
	return text
}

// theSource names where a state comes from: a node, or the archive.
func theSource(from string) string {
	if from == "archive" {
		return "the archive"
	}
	return from
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

// archiveText is one line on how far a node has archived the log.
func archiveText(node string, a admin.ArchiveStatus) string {
	text := fmt.Sprintf("%s has archived up to LSN %d to %s", node, a.Archived.LSN, a.URL)
	switch {
	case a.Error != "":
		text += fmt.Sprintf("; NOT since %s", a.Since.UTC().Format(time.RFC3339))
	case a.LagRecords > 0:
		text += fmt.Sprintf("; %d rec, %.1f s behind", a.LagRecords, a.LagSeconds)
	default:
		text += "; nothing is missing"
	}
	if a.Gap != 0 {
		text += fmt.Sprintf("; it misses records up to LSN %d until a backup is made", a.Gap)
	}
	return text
}
