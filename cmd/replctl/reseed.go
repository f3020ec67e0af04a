package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"repld/internal/admin"
)

func (a *app) reseedCmd() *cobra.Command {
	var req admin.ReseedRequest
	cmd := &cobra.Command{
		Use:   "reseed [NODE]",
		Short: "Give a standby a new state, from the active or from the archive",
		Long: `Replace the state of NODE (default: the node that is asked), a standby that runs.

From the active (the default): the state is set aside at once, and a snapshot of the active takes its place. Until that is there, NODE serves no reads and cannot be promoted.

--from-archive: the newest backup that fits NODE's log is fetched, with archived log if NODE's own does not reach back to it. The active is not read for it. NODE keeps its log, its acks and its vote, and
serves its present state until the new one is whole. If the archive is damaged, behind, or cannot be reached, that is said, and the state is taken from the active; with --only nothing is changed then (exit code 5).

A lagged standby does not get ahead of its delay by it. A node with an empty data directory seeds itself: from the archive if archive.seed says so.`,
		Example: "  replctl reseed c --from-archive\n  replctl reseed c --from-archive --only --reason 'verify: differs'\n  replctl reseed c",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				req.Node = args[0]
			}
			if req.Only && !req.Archive {
				return usageError("--only needs --from-archive")
			}
			return a.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				out, err := c.Reseed(ctx, req, a.progress)
				if err != nil {
					return err
				}
				return a.emit(out, func(w io.Writer) { reseedText(w, out) })
			})
		},
	}
	cmd.Flags().BoolVar(&req.Archive, "from-archive", false, "make the state from the newest backup in the archive")
	cmd.Flags().BoolVar(&req.Only, "only", false, "with --from-archive: if the archive cannot be used, change nothing")
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for the log and the journal")
	return cmd
}

func reseedText(w io.Writer, out admin.ReseedResult) {
	backup := ""
	if out.Backup != "" {
		backup = ", backup " + out.Backup
	}
	fmt.Fprintf(w, "%s has a new state from %s%s: it began at LSN %d and is at LSN %d now, %.1f s\n", out.Node, theSource(out.From), backup, out.Position.LSN, out.Applied.LSN, out.Seconds)
	if out.Note != "" {
		fmt.Fprintf(w, "note: %s\n", out.Note)
	}
}
