package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"repld/internal/admin"
)

func (a *app) holdCmd() *cobra.Command {
	var req admin.HoldRequest
	cmd := &cobra.Command{
		Use:   "hold [NODE]",
		Short: "Stop a standby from applying anything, at once, until it is released or promoted",
		Long: `Make NODE (default: the node that is asked) apply nothing more: its state stays where it is while a person decides what to do about a
mistake. It goes on receiving, fsyncing and acknowledging the log, so it counts for durability as before. The hold outlives a restart.

A node that is held can be promoted to a moment (promote --before, --to-lsn, --to-time), not otherwise. Its log grows until then.`,
		Example: "  replctl hold c --reason 'bad release at 14:02'\n  replctl promote c --before 'DEL user:*' --plan\n  replctl release c",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.hold(cmd.Context(), req, args)
		},
	}
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for status and the log")
	return cmd
}

func (a *app) releaseCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "release [NODE]",
		Short:   "Let a standby that is held apply again",
		Long:    "Let NODE (default: the node that is asked) go on applying. A lagged standby goes on with its delay: what is due already is applied at once, the mistake included.",
		Example: "  replctl release c",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.hold(cmd.Context(), admin.HoldRequest{Release: true}, args)
		},
	}
}

func (a *app) hold(ctx context.Context, req admin.HoldRequest, args []string) error {
	if len(args) > 0 {
		req.Node = args[0]
	}
	return a.ask(ctx, func(ctx context.Context, c *admin.Client) error {
		out, err := c.Hold(ctx, req)
		if err != nil {
			return err
		}
		return a.emit(out, func(w io.Writer) { holdText(w, out) })
	})
}

func holdText(w io.Writer, out admin.HoldResult) {
	if out.Hold == nil {
		fmt.Fprintf(w, "%s applies again; its state is at LSN %d, its log ends at LSN %d\n", out.Node, out.Applied.LSN, out.Durable.LSN)
		return
	}
	fmt.Fprintf(w, "%s is held since %s (%s)\n  its state stays at LSN %d; its log ends at LSN %d\n", out.Node, out.Hold.Since.UTC().Format(time.RFC3339), out.Hold.Reason, out.Applied.LSN, out.Durable.LSN)
	if !out.Next.IsZero() {
		fmt.Fprintf(w, "  the first record that it has not applied was written at %s\n", out.Next.UTC().Format(time.RFC3339Nano))
	}
}
