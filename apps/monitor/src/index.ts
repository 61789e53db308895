export { monitor, monitorRole, type OpenPublish, type Publish } from "./monitor-role.ts";
