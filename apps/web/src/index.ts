export { createToken, hashPassword, USER_ROLES, type UserRole } from "./access/user.ts";
export { openApiDocument } from "./openapi-document.ts";
export { web, webRole } from "./web.ts";
