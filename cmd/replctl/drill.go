package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"repld/internal/admin"
)

func (a *app) drillCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "drill [NODE]",
		Short: "Promote a fork of a standby in a sandbox and measure how long that takes",
		Long: `Have NODE (default: the node that is asked if it is a standby, else one that is connected) fork its state and log, promote the fork in a sandbox (own directory, own
socket, another cluster name, no peers), write and read a key there, run drill.command if there is one, and remove it all. The live data is linked and read, never written.

Measured are RTO, the time from the loss of the active to the first answer (with heartbeat.suspect in automatic mode; a person's time is not counted), and RPO, what the
active had committed and this node did not have. Both are held against objectives.rto and objectives.rpo.

The exit code is 0, 3 (an objective was missed) or 1 (the drill did not come to its end).`,
		Example: "  replctl drill\n  replctl drill b -o json | jq .rto",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var req admin.DrillRequest
			if len(args) > 0 {
				req.Node = args[0]
			}
			return a.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				out, err := c.Drill(ctx, req, a.progress)
				if err != nil {
					return err
				}
				if err := a.emit(out, func(w io.Writer) { drillTable(w, out) }); err != nil {
					return err
				}
				if !out.OK {
					return silent(exitDegraded)
				}
				return nil
			})
		},
	}
}

func drillTable(w io.Writer, r admin.DrillResult) {
	objective := func(s float64, none bool) string {
		if none {
			return "none"
		}
		return fmt.Sprintf("%.3f s", s)
	}
	rate := "nothing to replay"
	if r.Records > 0 {
		rate = fmt.Sprintf("%d records in %.3f s, %.0f a second", r.Records, r.ReplaySeconds, r.ReplayRate)
	}
	rpo := fmt.Sprintf("%.3f s (%s)", r.RPO, plural(r.RPORecords, "record"))
	table(w, []string{"MEASURED", "VALUE", "OBJECTIVE"}, [][]string{
		{"RTO", fmt.Sprintf("%.3f s", r.RTO), objective(r.ObjectiveRTO, r.ObjectiveRTO == 0)},
		{"  noticing", fmt.Sprintf("%.3f s", r.DetectSeconds), ""},
		{"  to serve", fmt.Sprintf("%.3f s", r.ServeSeconds), ""},
		{"RPO", rpo, objective(r.ObjectiveRPO, r.ObjectiveRPO < 0)},
		{"fork", fmt.Sprintf("%.3f s", r.ForkSeconds), ""},
		{"open", fmt.Sprintf("%.3f s", r.OpenSeconds), ""},
		{"replay", rate, ""},
		{"state", fmt.Sprintf("%d keys, LSN %d, log to LSN %d, epoch %d of the fork", r.Keys, r.Position.LSN, r.End.LSN, r.Epoch), ""},
		{"probe", r.Probe, ""},
	})
	for _, m := range r.Missed {
		fmt.Fprintf(w, "missed: %s\n", m)
	}
	for _, u := range r.Unknown {
		fmt.Fprintf(w, "note: %s\n", u)
	}
	if r.OK {
		fmt.Fprintf(w, "\ndrill: ok, node %s meets the objectives\n", r.Node)
		return
	}
	fmt.Fprintf(w, "\ndrill: node %s does NOT meet the objectives\n", r.Node)
}

// drillText is one line of status.
func drillText(w io.Writer, st admin.ClusterStatus) {
	for _, n := range st.Nodes {
		if r := n.Drill; r != nil {
			verdict := "met its objectives"
			if !r.OK {
				verdict = "MISSED its objectives"
			}
			fmt.Fprintf(w, "last drill of %s: %s, RTO %.3f s, RPO %.3f s, %s\n", n.Node, r.At.Format(time.DateTime), r.RTO, r.RPO, verdict)
		}
	}
}
