// A runner as the README has it, for a coordinator that a test starts and stops.

import { serveRunner } from "herocoordinator-client";

const { url, contextId } = JSON.parse(process.argv[2]);

await serveRunner({
  url,
  contextId,
  runnerId: 5,
  scriptTypes: ["V"],
  capacity: 2,
  async run({ script, inputs, log }) {
    console.log(`ran ${script}`);
    await log(`running ${script}`);
    await new Promise((resolve) => setTimeout(resolve, 300));
    const sum = Object.values(inputs).reduce((so_far, { value }) => so_far + Number(value), Number(script));
    return { value: String(sum) };
  },
});
console.log("drained");
