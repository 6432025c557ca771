package herocoordinator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// HTTPClient makes calls over HTTP, one a request. Any number of goroutines may use it.
type HTTPClient struct {
	API
	// URL of the HTTP API, as http://127.0.0.1:9652.
	URL string
	// Token is shown with each call, where callers log in.
	Token string
	// HTTP is http.DefaultClient unless given.
	HTTP *http.Client
}

// NewHTTPClient makes calls to the HTTP API at this URL.
func NewHTTPClient(url string) *HTTPClient {
	client := &HTTPClient{URL: url}
	client.API.call = client.Call
	return client
}

// Call calls any method; its result is decoded into result.
func (client *HTTPClient) Call(ctx context.Context, method string, params, result any) error {
	text, err := json.Marshal(request{"2.0", 1, method, params})
	if err != nil {
		return err
	}
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, client.URL, bytes.NewReader(text))
	if err != nil {
		return err
	}
	post.Header.Set("Content-Type", "application/json")
	if client.Token != "" {
		post.Header.Set("Authorization", "Bearer "+client.Token)
	}
	transport := client.HTTP
	if transport == nil {
		transport = http.DefaultClient
	}
	response, err := transport.Do(post)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxMessageBytes+1))
	if err != nil {
		return err
	}
	if len(body) > maxMessageBytes {
		return fmt.Errorf("%s answered with more than %d bytes", client.URL, maxMessageBytes)
	}
	answers, err := replies(body)
	if err != nil || len(answers) != 1 || (answers[0].Error == nil && answers[0].Result == nil) {
		return errors.Join(fmt.Errorf("%s answered %s, which is no JSON-RPC", client.URL, response.Status), err)
	}
	return answers[0].into(result)
}
