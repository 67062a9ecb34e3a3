package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/kiteq/kiteq/internal/operate"
)

// explain prints what the broker can say about a message, as kiteqctl explain does.
func (p *play) explain(ctx context.Context, id string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.broker.admin+"/messages/"+id, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var story operate.Story
	if err := json.NewDecoder(response.Body).Decode(&story); err != nil || response.StatusCode != http.StatusOK {
		return fmt.Errorf("the story of %s: status %s: %w", id, response.Status, err)
	}
	p.say("broker", "kiteqctl explain %s", id)
	for _, e := range story.Events {
		at := "now"
		if e.AtMs > 0 {
			at = time.UnixMilli(e.AtMs).Format("01-02 15:04:05")
		}
		p.say("broker", "  %-14s %-10s %-12s %s", at, e.What, e.Group, e.Text)
	}
	return nil
}
