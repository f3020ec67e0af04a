package admin

import (
	"context"
	"net/http"
)

// Copies is what a Handler may do beyond: copies in time. NewHandler serves it when its Handler is one.
type Copies interface {
	// Hold makes a standby apply nothing more, or go on.
	Hold(ctx context.Context, req HoldRequest, emit func(Event)) (HoldResult, error)
	// Salvage writes records that were set aside again, or says what that would do.
	Salvage(ctx context.Context, req SalvageRequest, emit func(Event)) (SalvageResult, error)
	// Backup copies a node's state into its archive.
	Backup(ctx context.Context, req BackupRequest, emit func(Event)) (BackupResult, error)
	// Checkpoints lists the checkpoints that a node keeps.
	Checkpoints(ctx context.Context, req CheckpointsRequest, emit func(Event)) (CheckpointsResult, error)
	// Reseed gives a standby another state, from the active or from the archive.
	Reseed(ctx context.Context, req ReseedRequest, emit func(Event)) (ReseedResult, error)
}

func serveCopies(mux *http.ServeMux, s *service, handler Handler) {
	h, ok := handler.(Copies)
	if !ok {
		return
	}
	mux.HandleFunc(PathHold, work(s, true, func(ctx context.Context, r HoldRequest, emit func(Event)) (Event, error) {
		out, err := h.Hold(ctx, r, emit)
		return Event{Hold: &out}, err
	}))
	mux.HandleFunc(PathSalvage, work(s, false, func(ctx context.Context, r SalvageRequest, emit func(Event)) (Event, error) {
		out, err := h.Salvage(ctx, r, emit)
		return Event{Salvage: &out}, err
	}))
	mux.HandleFunc(PathBackup, work(s, false, func(ctx context.Context, r BackupRequest, emit func(Event)) (Event, error) {
		out, err := h.Backup(ctx, r, emit)
		return Event{Backup: &out}, err
	}))
	mux.HandleFunc(PathCheckpoints, work(s, false, func(ctx context.Context, r CheckpointsRequest, emit func(Event)) (Event, error) {
		out, err := h.Checkpoints(ctx, r, emit)
		return Event{Checkpoints: &out}, err
	}))
	mux.HandleFunc(PathReseed, work(s, true, func(ctx context.Context, r ReseedRequest, emit func(Event)) (Event, error) {
		out, err := h.Reseed(ctx, r, emit)
		return Event{Reseed: &out}, err
	}))
}
