package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"repld/internal/admin"
)

func (a *app) statusCmd() *cobra.Command {
	var every int
	var local bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show every node, the sync set, and what would be lost if the active died now",
		Long: `Show every node of the cluster as the asked node sees it.

  EPOCH      epoch that the node follows or holds
  DURABLE    last LSN on its disk
  COMMITTED  last LSN that it knows to be durable where the sync policy demands
  APPLIED    last LSN in its state
  LAG        what its disk lacks of the active's log: records, bytes, seconds; then what it has but did not apply
  LINK       how it gets the log: connecting, probe, stream, snapshot
  SYNC       yes: its acknowledgements count now; no: they should, but do not; -: not in the sync set

The exit code is 0, 3 (degraded) or 4 (no active).`,
		Example: "  replctl status\n  replctl status --watch 2\n  replctl status -o json | jq .at_risk",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				if every > 0 {
					return a.watch(ctx, c, local, time.Duration(every)*time.Second)
				}
				st, err := c.Status(ctx, local)
				if err != nil {
					return err
				}
				if err := a.emit(st, func(w io.Writer) { statusTable(w, st) }); err != nil {
					return err
				}
				return silent(statusCode(st))
			})
		},
	}
	cmd.Flags().IntVarP(&every, "watch", "w", 0, "repeat every so many `seconds` until interrupted")
	cmd.Flags().BoolVar(&local, "local", false, "only the asked node, without asking its peers")
	return cmd
}

// watch repeats the table; a node that does not answer is said and asked again.
func (a *app) watch(ctx context.Context, c *admin.Client, local bool, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		st, err := c.Status(ctx, local)
		if a.format == formatTable {
			fmt.Fprintf(a.out, "\n%s\n", a.now().Format(time.TimeOnly))
		}
		if err != nil {
			fmt.Fprintln(a.err, "replctl:", err)
		} else if err := a.emit(st, func(w io.Writer) { statusTable(w, st) }); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func statusTable(w io.Writer, st admin.ClusterStatus) {
	active := dash(st.Active)
	if st.Active == "" {
		active = "none: nobody may write"
	}
	fmt.Fprintf(w, "cluster %s, epoch %d, active %s (asked %s)\n\n", st.Cluster, st.Epoch, active, st.Asked)
	rows := make([][]string, 0, len(st.Nodes))
	for _, n := range st.Nodes {
		rows = append(rows, statusRow(st, n))
	}
	table(w, []string{"NODE", "ROLE", "MODE", ">EPOCH", ">DURABLE", ">COMMITTED", ">APPLIED", "LAG", "LINK", "SYNC"}, rows)
	fmt.Fprintln(w)
	if len(st.Sync.Members) > 0 || st.Sync.K > 0 {
		fmt.Fprintf(w, "sync set: %s besides the active (version %d)\n", st.Sync, st.Sync.Version)
	} else {
		fmt.Fprintln(w, "sync set: none, a write is answered when the active alone has it")
	}
	failoverText(w, st)
	proofText(w, st)
	copiesText(w, st)
	drillText(w, st)
	if st.AtRisk.Statement != "" {
		fmt.Fprintf(w, "if the active died now: %s\n", st.AtRisk.Statement)
	}
	if who := st.AtRisk.Promotable; len(who) > 0 {
		fmt.Fprintf(w, "may be promoted without loss: %s\n", strings.Join(who, ", "))
	}
	for _, text := range alarms(st) {
		fmt.Fprintf(w, "ALARM %s\n", text)
	}
	for _, text := range notes(st) {
		fmt.Fprintf(w, "note: %s\n", text)
	}
}

func statusRow(st admin.ClusterStatus, n admin.NodeStatus) []string {
	if n.Error != "" {
		return []string{n.Node, "?", dash(n.Mode), "?", "?", "?", "?", n.Error, "-", syncText(st, n)}
	}
	mode := dash(n.Mode)
	if n.ApplyDelay > 0 {
		mode += " " + n.ApplyDelay.String()
	}
	lag, link := lagText(n.Lag), dash(n.Link)
	if n.Role == admin.RoleActive {
		lag, link = "-", "-"
	}
	role := n.Role
	if n.Blank {
		role += " (blank)"
	}
	num := func(v uint64) string { return fmt.Sprint(v) }
	return []string{n.Node, role, mode, num(uint64(n.Epoch)), num(uint64(n.Durable.LSN)), num(uint64(n.Committed)), num(uint64(n.Applied.LSN)),
		lag, link, syncText(st, n)}
}

func lagText(l admin.Lag) string {
	text := "0"
	if l.Records > 0 || l.Bytes > 0 {
		text = fmt.Sprintf("%d rec, %s, %.1f s", l.Records, bytesText(l.Bytes), l.Seconds)
	}
	if l.ApplyRecords > 0 {
		text += fmt.Sprintf("; not applied %d rec, %.1f s", l.ApplyRecords, l.ApplySeconds)
	}
	return text
}

// syncText is what the active says of the node's acknowledgements.
func syncText(st admin.ClusterStatus, n admin.NodeStatus) string {
	if n.Node == st.Active || !st.Sync.Has(n.Node) {
		return "-"
	}
	for _, other := range st.Nodes {
		if other.Node != st.Active {
			continue
		}
		for _, s := range other.Standbys {
			if s.Node == n.Node && s.InSync {
				return "yes"
			}
		}
	}
	return "no"
}

func alarms(st admin.ClusterStatus) []string {
	out := append([]string(nil), st.Alarms...)
	for _, n := range st.Nodes {
		for _, text := range n.Alarms {
			out = append(out, n.Node+": "+text)
		}
		if n.Degraded != "" && !slices.Contains(n.Alarms, n.Degraded) {
			out = append(out, n.Node+": "+n.Degraded)
		}
	}
	return out
}

// notes are worth a look, and no reason to worry.
func notes(st admin.ClusterStatus) []string {
	out := failoverNotes(st)
	for _, n := range st.Nodes {
		if n.Diverged > 0 {
			out = append(out, fmt.Sprintf("%s: %s set aside that the history does not contain; ask that node: replctl diverged list", n.Node, plural(uint64(n.Diverged), "piece")+" of log"))
		}
	}
	return out
}

func statusCode(st admin.ClusterStatus) int {
	if st.Active == "" {
		return exitNoActive
	}
	degraded := len(st.Alarms) > 0
	for _, n := range st.Nodes {
		degraded = degraded || n.Error != "" || n.Degraded != "" || len(n.Alarms) > 0
	}
	if degraded {
		return exitDegraded
	}
	return exitOK
}

// list joins names for a sentence.
func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
