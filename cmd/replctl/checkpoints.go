package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"repld/internal/admin"
)

func (a *app) checkpointsCmd() *cobra.Command {
	var req admin.CheckpointsRequest
	cmd := &cobra.Command{
		Use:   "checkpoints [NODE]",
		Short: "List the recent checkpoints that a node keeps of its state",
		Long: `List the checkpoints of NODE (default: the node that is asked), the newest first. They are made of links, so they take space only for what the state
has replaced since; how often and how many is said in checkpoints of the configuration.

  REWIND  yes: the log reaches back to it, so the node can be rewound to it when it has to give records up, instead of being seeded anew
  DIGEST  of the rows at that position, as verify and backup show it; -: it is being computed`,
		Example: "  replctl checkpoints b\n  replctl checkpoints --create",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				req.Node = args[0]
			}
			return a.ask(cmd.Context(), func(ctx context.Context, c *admin.Client) error {
				out, err := c.Checkpoints(ctx, req, a.progress)
				if err != nil {
					return err
				}
				return a.emit(out, func(w io.Writer) { checkpointsTable(w, out) })
			})
		},
	}
	cmd.Flags().BoolVar(&req.Create, "create", false, "make one now, unless the newest is as new as the state")
	return cmd
}

func checkpointsTable(w io.Writer, out admin.CheckpointsResult) {
	rows := [][]string{}
	for _, c := range out.Checkpoints {
		digest, rewind := "-", "no"
		if c.Digest != 0 {
			digest = c.Digest.String()
		}
		if c.Rewind {
			rewind = "yes"
		}
		rows = append(rows, []string{c.ID, c.Created.UTC().Format(time.RFC3339), fmt.Sprint(c.Position.Epoch), fmt.Sprint(c.Position.LSN), fmt.Sprint(c.Files), bytesText(c.Bytes), digest, rewind})
	}
	table(w, []string{"ID", "CREATED", ">EPOCH", ">LSN", ">FILES", ">BYTES", "DIGEST", "REWIND"}, rows)
	fmt.Fprintf(w, "\n%s keeps %s; beyond the state itself they take %s\n", out.Node, plural(uint64(len(out.Checkpoints)), "checkpoint"), bytesText(out.Extra))
}
