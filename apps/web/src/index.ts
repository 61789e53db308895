export { createToken, hashPassword, USER_ROLES, type UserRole } from "./access/user.ts";
export { openLocalApi, type LocalApi } from "./local-api.ts";
export { openApiDocument } from "./openapi-document.ts";
export { web, webRole } from "./web.ts";
