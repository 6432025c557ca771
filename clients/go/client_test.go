package herocoordinator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// The coordinator is one that the caller of these tests has started: tests/clients/test_go.py.
func coordinator(t *testing.T) (httpURL, wsURL string, id uint32) {
	httpURL, wsURL = os.Getenv("HEROCOORDINATOR_HTTP"), os.Getenv("HEROCOORDINATOR_WS")
	if httpURL == "" || wsURL == "" {
		t.Skip("HEROCOORDINATOR_HTTP and HEROCOORDINATOR_WS name no coordinator")
	}
	number, err := strconv.ParseUint(os.Getenv("HEROCOORDINATOR_CONTEXT"), 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return httpURL, wsURL, uint32(number)
}

func job(contextID, id uint32) JobCreate {
	return JobCreate{ID: id, CallerID: 7, ContextID: contextID, ScriptType: ScriptTypeSal, LostRetries: Ptr(int64(2))}
}

func calls(t *testing.T, ctx context.Context, api API, id uint32) {
	t.Helper()
	made, err := api.ContextCreate(ctx, ContextCreateParams{Context: ContextCreate{ID: id, Admins: []uint32{7}}})
	if err != nil || made.ID != id || len(made.Readers) != 0 {
		t.Fatal(made, err)
	}
	stored, err := api.JobCreate(ctx, JobCreateParams{ContextID: id, Job: job(id, 1)})
	if err != nil || stored.Status != JobStatusDispatched || *stored.LostRetries != 2 || stored.Timeout != 0 {
		t.Fatal(stored, err)
	}
	_, err = api.JobLoad(ctx, JobLoadParams{ContextID: id, CallerID: 7, ID: 404})
	var missing *NotFoundError
	if !errors.As(err, &missing) || missing.Data.IDs["id"] != 404 || missing.Code != -32001 {
		t.Fatal(err)
	}
	_, err = api.FlowEvents(ctx, FlowEventsParams{ContextID: id, ID: 1, Limit: Ptr(int64(0))})
	var invalid *InvalidParamsError
	if !errors.As(err, &invalid) || invalid.Data[0].Loc[0] != "limit" || !strings.Contains(err.Error(), "limit: ") {
		t.Fatal(err)
	}
}

func TestCallsOverHTTP(t *testing.T) {
	httpURL, _, id := coordinator(t)
	client := NewHTTPClient(httpURL)
	calls(t, context.Background(), client.API, id)
	_, err := client.FlowSubscribe(context.Background(), FlowSubscribeParams{ContextID: id, ID: 1})
	var required *WebSocketRequiredError
	if !errors.As(err, &required) {
		t.Fatal(err)
	}
	if err := NewHTTPClient(httpURL+"/nowhere").Call(context.Background(), "job.load", nil, nil); err == nil {
		t.Fatal("there is a coordinator at /nowhere")
	}
}

func TestCallsOverWebSocket(t *testing.T) {
	_, wsURL, id := coordinator(t)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	client, err := Dial(ctx, wsURL, Options{})
	if err != nil {
		t.Fatal(err)
	}
	calls(t, ctx, client.API, id+1)

	var many sync.WaitGroup
	for i := uint32(1); i <= 50; i++ {
		many.Add(1)
		go func() {
			defer many.Done()
			large := job(id+1, i)
			large.Script = strings.Repeat("é", int(i)*2000)
			stored, err := client.JobCreate(ctx, JobCreateParams{ContextID: id + 1, Job: large})
			if err != nil || stored.Script != large.Script {
				t.Error(i, err)
			}
		}()
	}
	many.Wait()

	waiting, giveUp := context.WithTimeout(ctx, 100*time.Millisecond)
	defer giveUp()
	runner := RunnerCreate{ID: 3, Pubkey: "k", Address: "::1", Topic: "runner3", Local: true}
	if _, err := client.RunnerCreate(ctx, RunnerCreateParams{ContextID: id + 1, Runner: runner}); err != nil {
		t.Fatal(err)
	}
	take := JobTakeParams{ContextID: id + 1, RunnerID: 3, ScriptTypes: []ScriptType{ScriptTypeV}, Wait: Ptr(20.0)}
	if _, err := client.JobTake(waiting, take); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	<-client.Done()
	if _, err := client.ContextLoad(ctx, ContextLoadParams{ID: id}); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

func TestARunnerAndAFollower(t *testing.T) {
	_, wsURL, id := coordinator(t)
	id += 2
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	told := make(chan any, 100)
	client, err := Dial(ctx, wsURL, Options{OnNotification: func(method string, params json.RawMessage) {
		notice, err := DecodeNotification(method, params)
		if err != nil {
			t.Error(err)
		}
		told <- notice
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(client.ContextCreate(ctx, ContextCreateParams{Context: ContextCreate{ID: id}}))
	runner := RunnerCreate{ID: 3, Pubkey: "k", Address: "::1", Topic: "runner3", Local: true}
	must(client.RunnerCreate(ctx, RunnerCreateParams{ContextID: id, Runner: runner}))
	flow := FlowCreate{ID: 1, CallerID: 7, ContextID: id, Jobs: []uint32{1}}
	must(client.FlowSubmit(ctx, FlowSubmitParams{ContextID: id, Flow: flow, Jobs: []JobCreate{job(id, 1)}}))
	must(client.FlowSubscribe(ctx, FlowSubscribeParams{ContextID: id, ID: 1}))
	subscribe := RunnerSubscribeParams{ContextID: id, RunnerID: 3, ScriptTypes: []ScriptType{ScriptTypeSal}, Capacity: 1}
	must(client.RunnerSubscribe(ctx, subscribe))

	var seen []string
	for notice := range told {
		switch notice := notice.(type) {
		case *AssignmentNotice:
			finish := JobFinishParams{ContextID: id, CallerID: 7, ID: notice.Job.ID, Token: notice.Token}
			finish.Result = Map[string, string]{"answer": "42"}
			must(client.JobFinish(ctx, finish))
		case *FlowEventNotice:
			seen = append(seen, fmt.Sprint(notice.Kind, " ", *notice.Status))
		}
		if len(seen) > 0 && seen[len(seen)-1] == "flow Finished" {
			break
		}
	}
	if got := strings.Join(seen, ", "); got != "flow Started, job Started, job Finished, flow Finished" {
		t.Fatal(got)
	}
	report, err := client.FlowStatus(ctx, FlowParams{ContextID: id, ID: 1})
	if err != nil || report.Counts[JobStatusFinished] != 1 || report.Flow.Result["1"] != `{"answer":"42"}` {
		t.Fatal(report, err)
	}
	dag, err := client.FlowDag(ctx, FlowLoadParams{ContextID: id, ID: 1})
	if err != nil || len(dag.Edges) != 0 || dag.Levels[0][0] != 1 {
		t.Fatal(dag, err)
	}
}

func TestRefusedConnections(t *testing.T) {
	httpURL, wsURL, _ := coordinator(t)
	for address, why := range map[string]string{
		httpURL: "begins with ws://",
		strings.Replace(httpURL, "http", "ws", 1) + "/nowhere": "answered 4",
	} {
		if _, err := Dial(context.Background(), address, Options{}); err == nil || !strings.Contains(err.Error(), why) {
			t.Error(address, err)
		}
	}
	late, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Dial(late, wsURL, Options{}); err == nil {
		t.Error("a context that has ended connects")
	}
}
