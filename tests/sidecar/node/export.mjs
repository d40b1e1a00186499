// Exports one log record, one span and one data point by every exporter of OTLP that there is for
// JavaScript, plain and with gzip. Prints the result of each export as JSON: {"logs http gzip": 0}.
// Each has an address of its own: 203.0.113.N, in the order of printing.

import { resourceFromAttributes } from "@opentelemetry/resources";
import { LoggerProvider, SimpleLogRecordProcessor } from "@opentelemetry/sdk-logs";
import { MeterProvider, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import { BasicTracerProvider, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-base";

const [http, grpc, canary] = process.argv.slice(2);
const resource = resourceFromAttributes({ "os.type": "linux", "service.name": canary });
const results = {};

async function logs(exporter, attributes) {
  const processors = [new SimpleLogRecordProcessor({ exporter })];
  const provider = new LoggerProvider({ resource, processors });
  provider.getLogger(canary).emit({ body: canary, severityText: canary, attributes });
  await provider.forceFlush();
  await provider.shutdown();
}

async function traces(exporter, attributes) {
  const spanProcessors = [new SimpleSpanProcessor(exporter)];
  const provider = new BasicTracerProvider({ resource, spanProcessors });
  const span = provider.getTracer(canary).startSpan(canary, { attributes });
  span.addEvent(canary, { [canary]: canary });
  span.end();
  await provider.forceFlush();
  await provider.shutdown();
}

async function metrics(exporter, attributes) {
  const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 60_000 });
  const provider = new MeterProvider({ resource, readers: [reader] });
  provider.getMeter(canary).createCounter(canary, { description: canary }).add(7, attributes);
  await reader.forceFlush();
  exporter.export = (_, done) => done({ code: 0 }); // the reader would export again at its end
  await provider.shutdown();
}

const kinds = { logs: ["logs", "Log", logs], traces: ["trace", "Trace", traces], metrics: ["metrics", "Metric", metrics] };
let number = 0;
for (const [signal, [name, title, run]] of Object.entries(kinds)) {
  for (const way of ["http", "proto", "grpc"]) {
    for (const compression of ["none", "gzip"]) {
      const module = await import(`@opentelemetry/exporter-${name}-otlp-${way}`);
      const url = way === "grpc" ? `http://${grpc}` : `http://${http}/v1/${signal}`;
      const exporter = new module[`OTLP${title}Exporter`]({ url, compression, timeoutMillis: 60_000 });
      const attributes = { "client.address": `203.0.113.${++number}`, "device.type": "phone", [canary]: canary };
      const send = exporter.export.bind(exporter);
      exporter.export = (items, done) =>
        send(items, (result) => {
          results[`${signal} ${way} ${compression}`] = result.code;
          if (result.error) console.error(`${signal} ${way} ${compression}: ${result.error.message}`);
          done(result);
        });
      await run(exporter, attributes);
    }
  }
}
console.log(JSON.stringify(results));
