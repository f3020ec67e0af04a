package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"repld/internal/admin"
)

func (a *app) pauseCmd() *cobra.Command {
	var req admin.PauseRequest
	cmd := &cobra.Command{
		Use:   "pause",
		Short: "Keep all nodes from promoting or stepping down by themselves, for maintenance",
		Long: `Pause automatic failover: no node promotes itself, none steps down for want of a lease, SIGTERM hands nothing over. promote, switchover and
demote work as ever. Each node keeps it on disk and tells the others; it lasts until resume, restarts included.

Exit code 3 when a node could not be told: it follows when it is reached, and until then still votes. While a majority knows, nobody is elected.`,
		Example: "  replctl pause --reason 'switch replacement, rack 2'\n  replctl resume",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.pause(cmd.Context(), req) },
	}
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for status and the log of all nodes")
	return cmd
}

func (a *app) resumeCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "resume",
		Short:   "End pause: automatic failover goes on",
		Long:    "Let automatic failover go on. When there is no active, the nodes elect one at once.",
		Example: "  replctl resume",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.pause(cmd.Context(), admin.PauseRequest{Resume: true})
		},
	}
}

func (a *app) pause(ctx context.Context, req admin.PauseRequest) error {
	return a.ask(ctx, func(ctx context.Context, c *admin.Client) error {
		out, err := c.Pause(ctx, req)
		if err != nil {
			return err
		}
		if err := a.emit(out, func(w io.Writer) { pauseText(w, out) }); err != nil {
			return err
		}
		if len(out.Silent) > 0 {
			return silent(exitDegraded)
		}
		return nil
	})
}

func pauseText(w io.Writer, out admin.PauseResult) {
	if out.Paused != nil {
		fmt.Fprintf(w, "automatic failover is paused%s\n", reasonText(out.Paused.Reason))
	} else {
		fmt.Fprintln(w, "automatic failover is not paused")
	}
	fmt.Fprintf(w, "  on disk at: %s\n", list(out.Knows))
	if len(out.Silent) > 0 {
		fmt.Fprintf(w, "  NOT told yet: %s; they follow when they are reached\n", list(out.Silent))
	}
	if out.Mode == "manual" {
		fmt.Fprintln(w, "  failover.mode is manual here: nothing happens by itself anyway")
	}
}

func reasonText(reason string) string {
	if reason == "" {
		return ""
	}
	return " (" + reason + ")"
}

// failoverText is what status says about failover; nothing for nodes that do not tell.
func failoverText(w io.Writer, st admin.ClusterStatus) {
	for _, n := range st.Nodes {
		f := n.Failover
		if f == nil || (st.Active != "" && n.Node != st.Active) {
			continue
		}
		fmt.Fprintf(w, "failover: %s", f.Mode)
		if f.Paused != nil {
			fmt.Fprintf(w, ", PAUSED since %s%s", f.Paused.Since.UTC().Format(time.RFC3339), reasonText(f.Paused.Reason))
		}
		if f.Lease != "" {
			fmt.Fprintf(w, "; lease for reads: %s", f.Lease)
		}
		fmt.Fprintln(w)
		if s := f.Scheduled; s != nil {
			fmt.Fprintf(w, "scheduled: %s hands over to %s at %s%s\n", n.Node, s.Whom(), s.At.UTC().Format(time.RFC3339), reasonText(s.Reason))
		}
		break
	}
}

// failoverNotes are suspicions, and why nobody takes over.
func failoverNotes(st admin.ClusterStatus) []string {
	var out []string
	for _, n := range st.Nodes {
		f := n.Failover
		if f == nil {
			continue
		}
		if len(f.Suspects) > 0 {
			out = append(out, fmt.Sprintf("%s does not hear %s", n.Node, list(f.Suspects)))
		}
		if f.Waiting != "" && st.Active == "" {
			out = append(out, fmt.Sprintf("%s does not take over: %s", n.Node, f.Waiting))
		}
		if f.Sick != "" {
			out = append(out, fmt.Sprintf("%s: its application does not answer: %s", n.Node, f.Sick))
		}
	}
	return out
}
